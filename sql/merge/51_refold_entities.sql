-- Finds how the versions of the entities that are folded anew differ from the fold; -infinity stands for the version before.
-- In: touched, folded_entity, entity. Out: entity_diff.
insert into entity_diff (entity_uid, valid_from, valid_to, display_name, entity_type_id, hashdiff, action, closes)
select entity_uid, coalesce(old_from, fold_from), new_to, display_name, entity_type_id, hashdiff, action,
       case action when 'cut' then old_from end
from (
    select *, case
            when old_from is null then 'open'
            when hashdiff is null then 'drop'
            when hashdiff <> old_hashdiff or display_name <> old_name then 'swap'
            when new_to is not distinct from old_to then 'keep'
            when new_to < coalesce(old_to, 'infinity') then 'cut'
            else 'swap'
        end as action
    from (
        select entity_uid, fold_from,
               max(display_name) as display_name, max(entity_type_id) as entity_type_id, max(new_to) as new_to,
               (array_agg(hashdiff) filter (where hashdiff is not null))[1] as hashdiff,
               max(old_from) as old_from, max(old_to) as old_to, max(old_name) as old_name,
               (array_agg(old_hashdiff) filter (where old_hashdiff is not null))[1] as old_hashdiff
        from (
            select entity_uid, valid_from as fold_from, display_name, entity_type_id, hashdiff, valid_to as new_to,
                   null::timestamptz as old_from, null::timestamptz as old_to, null::text as old_name, null::bytea as old_hashdiff
            from folded_entity
            union all
            select e.entity_uid, case when e.valid_from < t.since then '-infinity' else e.valid_from end,
                   null, null, null, null, e.valid_from, e.valid_to, e.display_name, e.hashdiff
            from touched t
            join entity e on e.entity_uid = t.entity_uid and (e.valid_to >= t.since or e.valid_to is null)
            where t.is_refolded
        ) both_sides
        group by entity_uid, fold_from
    ) paired
) decided
where action <> 'keep'
