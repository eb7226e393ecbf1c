-- Insert the versions of the details of new entities, without looking for earlier ones.
-- In: named_entity, staged_change, recorded_at. Out: entity_detail.
insert into entity_detail (entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, is_current,
                           created_at, updated_at)
select s.entity_uid, dt.detail_type_id, listed.detail_value, listed.hashdiff, s.change_ts, null, true,
       %(recorded_at)s, %(recorded_at)s
from named_entity n
join staged_change s on s.entity_uid = n.entity_uid
cross join lateral unnest(s.detail_types, s.detail_values, s.detail_hashdiffs) as listed (code, detail_value, hashdiff)
join detail_type dt on dt.code = listed.code
where n.route = 'new' and listed.hashdiff is not null
order by s.entity_uid, dt.detail_type_id
