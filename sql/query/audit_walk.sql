-- All that was recorded of some entities up to a change of each, in recording order: from it the states before and after follow.
-- In: entity_uids, batch_ids and row_nos (of the last change of each). Out: entity_uid, change_ts, batch_id, row_no, op,
-- display_name, entity_type, details.
select l.entity_uid, l.change_ts, l.batch_id, l.row_no, l.op, l.display_name, et.code, l.details
from unnest(%(entity_uids)s::uuid[], %(batch_ids)s::bigint[], %(row_nos)s::integer[]) as last (entity_uid, batch_id, row_no)
join ledger l on l.entity_uid = last.entity_uid and (l.batch_id, l.row_no) <= (last.batch_id, last.row_no)
left join entity_type et on et.entity_type_id = l.entity_type_id
order by l.batch_id, l.row_no
