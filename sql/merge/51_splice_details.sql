-- Find how one change of an entity alters the versions of its details (see sql/routines/50_splice.sql).
-- In: named_entity, staged_change, entity_detail, ledger. Out: detail_difference.
insert into detail_difference (entity_uid, detail_type_id, action, valid_from, valid_to, old_to, detail_value, hashdiff)
select s.entity_uid, d.detail_type_id, d.action, d.valid_from, d.valid_to, d.old_to, d.detail_value, d.hashdiff
from named_entity n
join staged_change s on s.entity_uid = n.entity_uid
cross join lateral detail_splice(
    s.entity_uid, s.change_ts, s.op, s.detail_types, s.detail_values, s.detail_hashdiffs, n.late > 0) d
where n.route = 'splice'
