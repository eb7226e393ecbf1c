-- Finds how the detail versions of the entities that are folded anew differ from the fold; -infinity stands for the version before.
-- In: touched, folded_detail, entity_detail. Out: detail_diff.
insert into detail_diff (entity_uid, detail_type_id, valid_from, valid_to, detail_value, hashdiff, action, closes)
select entity_uid, detail_type_id, coalesce(old_from, fold_from), new_to, detail_value, hashdiff, action,
       case action when 'cut' then old_from end
from (
    select *, case
            when old_from is null then 'open'
            when hashdiff is null then 'drop'
            when hashdiff <> old_hashdiff or detail_value <> old_value then 'swap'
            when new_to is not distinct from old_to then 'keep'
            when new_to < coalesce(old_to, 'infinity') then 'cut'
            else 'swap'
        end as action
    from (
        select entity_uid, detail_type_id, fold_from, max(detail_value) as detail_value, max(new_to) as new_to,
               (array_agg(hashdiff) filter (where hashdiff is not null))[1] as hashdiff,
               max(old_from) as old_from, max(old_to) as old_to, max(old_value) as old_value,
               (array_agg(old_hashdiff) filter (where old_hashdiff is not null))[1] as old_hashdiff
        from (
            select entity_uid, detail_type_id, valid_from as fold_from, detail_value, hashdiff, valid_to as new_to,
                   null::timestamptz as old_from, null::timestamptz as old_to, null::text as old_value, null::bytea as old_hashdiff
            from folded_detail
            union all
            select d.entity_uid, d.detail_type_id,
                   case when d.valid_from < t.since then '-infinity' else d.valid_from end,
                   null, null, null, d.valid_from, d.valid_to, d.detail_value, d.hashdiff
            from touched t
            join entity_detail d on d.entity_uid = t.entity_uid and (d.valid_to >= t.since or d.valid_to is null)
            where t.is_refolded
        ) both_sides
        group by entity_uid, detail_type_id, fold_from
    ) paired
) decided
where action <> 'keep'
