-- Finds the versions that one complete change opens of an entity that it extends, and the current ones that they close.
-- In: touched, stage_change, entity. Out: entity_diff.
insert into entity_diff (entity_uid, valid_from, display_name, entity_type_id, hashdiff, action, closes)
select s.entity_uid, s.change_ts, s.display_name, s.entity_type_id, s.hashdiff, 'open', e.valid_from
from touched t
join stage_change s on s.entity_uid = t.entity_uid
left join entity e on e.entity_uid = s.entity_uid and e.is_current
where t.is_extended and t.changes = 1 and e.hashdiff is distinct from s.hashdiff
