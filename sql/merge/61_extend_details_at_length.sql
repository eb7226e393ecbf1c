-- Finds the detail versions that complete changes in order of time open, and the last ones, which they follow or end.
-- In: touched entities whose versions are extended, stage_change, entity_detail. Out: detail_diff.
insert into detail_diff (entity_uid, detail_type_id, valid_from, valid_to, next_from, detail_value, hashdiff, action, alters)
select entity_uid, detail_type_id, change_ts,
       case when detail_value is null then change_ts else ends_at end, next_from,
       detail_value, hashdiff, case when detail_value is null then 'end' else 'open' end, alters
from (
    select *, lead(change_ts) over ordered as ends_at,
           case when lead(hashdiff) over ordered is not null then lead(change_ts) over ordered
                else lead(change_ts, 2) over ordered end as next_from,
           case when row_number() over ordered = 1 then last_from end as alters
    from (
        select *, lag(hashdiff, 1, current_hashdiff)
                  over (partition by entity_uid, detail_type_id order by change_ts) as hashdiff_before
        from (
            select distinct on (s.entity_uid, dt.detail_type_id, s.change_ts)
                   s.entity_uid, dt.detail_type_id, s.change_ts, listed.detail_value, listed.hashdiff,
                   d.valid_from as last_from, case when d.is_current then d.hashdiff end as current_hashdiff
            from touched t
            join stage_change s on s.entity_uid = t.entity_uid
            cross join lateral unnest(s.detail_types, s.detail_values, s.detail_hashdiffs)
                as listed (code, detail_value, hashdiff)
            join detail_type dt on dt.code = listed.code
            left join entity_detail d
                on d.entity_uid = s.entity_uid and d.detail_type_id = dt.detail_type_id and d.next_from is null
            where t.is_extended and t.changes > 1
            order by s.entity_uid, dt.detail_type_id, s.change_ts, s.row_no desc
        ) standing
    ) compared
    where hashdiff is distinct from hashdiff_before
    window ordered as (partition by entity_uid, detail_type_id order by change_ts)
) runs
where detail_value is not null or alters is not null
