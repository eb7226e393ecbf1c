-- Find how one change of an entity alters its versions (see sql/routines/50_splice.sql).
-- In: named_entity, staged_change, entity, ledger. Out: entity_difference.
insert into entity_difference (entity_uid, action, valid_from, valid_to, old_to, display_name, entity_type_id, hashdiff)
select s.entity_uid, d.action, d.valid_from, d.valid_to, d.old_to, d.display_name, d.entity_type_id, d.hashdiff
from named_entity n
join staged_change s on s.entity_uid = n.entity_uid
cross join lateral entity_splice(
    s.entity_uid, s.change_ts, s.op, s.display_name, s.entity_type_id, s.hashdiff, n.late > 0) d
where n.route = 'splice'
