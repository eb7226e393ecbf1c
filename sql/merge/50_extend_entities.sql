-- Finds the versions that one complete change opens of an entity that it extends, and the last ones, which they follow.
-- In: touched, stage_change, entity. Out: entity_diff.
insert into entity_diff (entity_uid, valid_from, display_name, entity_type_id, hashdiff, action, alters)
select s.entity_uid, s.change_ts, s.display_name, s.entity_type_id, s.hashdiff, 'open', e.valid_from
from touched t
join stage_change s on s.entity_uid = t.entity_uid
left join entity e on e.entity_uid = s.entity_uid and e.next_from is null
where t.is_extended and t.changes = 1 and (e.is_current is not true or e.hashdiff <> s.hashdiff)
