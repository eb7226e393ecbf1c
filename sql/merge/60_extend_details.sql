-- Finds the detail versions that one complete change opens or ends of an entity that it extends, and the last ones.
-- In: touched, stage_change, entity_detail. Out: detail_diff.
insert into detail_diff (entity_uid, detail_type_id, valid_from, valid_to, detail_value, hashdiff, action, alters)
select s.entity_uid, dt.detail_type_id, s.change_ts, case when listed.hashdiff is null then s.change_ts end,
       listed.detail_value, listed.hashdiff, case when listed.hashdiff is null then 'end' else 'open' end, d.valid_from
from touched t
join stage_change s on s.entity_uid = t.entity_uid
cross join lateral unnest(s.detail_types, s.detail_values, s.detail_hashdiffs) as listed (code, detail_value, hashdiff)
join detail_type dt on dt.code = listed.code
left join entity_detail d
    on d.entity_uid = s.entity_uid and d.detail_type_id = dt.detail_type_id and d.next_from is null
where t.is_extended and t.changes = 1 and case when d.is_current then d.hashdiff end is distinct from listed.hashdiff
