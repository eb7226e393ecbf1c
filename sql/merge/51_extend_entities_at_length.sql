-- Finds the versions that complete changes in order of time open, and the last ones, which they follow.
-- In: touched entities whose versions are extended, stage_change, entity. Out: entity_diff.
insert into entity_diff (entity_uid, valid_from, valid_to, next_from, display_name, entity_type_id, hashdiff, action, alters)
select entity_uid, change_ts, lead(change_ts) over ordered, lead(change_ts) over ordered,
       display_name, entity_type_id, hashdiff, 'open', case when row_number() over ordered = 1 then last_from end
from (
    select *, lag(hashdiff, 1, current_hashdiff) over (partition by entity_uid order by change_ts) as hashdiff_before
    from (
        select distinct on (s.entity_uid, s.change_ts)
               s.entity_uid, s.change_ts, s.display_name, s.entity_type_id, s.hashdiff,
               e.valid_from as last_from, case when e.is_current then e.hashdiff end as current_hashdiff
        from touched t
        join stage_change s on s.entity_uid = t.entity_uid
        left join entity e on e.entity_uid = s.entity_uid and e.next_from is null
        where t.is_extended and t.changes > 1
        order by s.entity_uid, s.change_ts, s.row_no desc
    ) standing
) compared
where hashdiff is distinct from hashdiff_before
window ordered as (partition by entity_uid order by change_ts)
