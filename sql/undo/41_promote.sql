-- Bring the repeats that stand in the place of what they repeat into the ledger, each where it was recorded.
-- In: affected_change, batch_id. Out: ledger.
insert into ledger (entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details, promoted_by, source_id)
select j.entity_uid, j.change_ts, j.batch_id, j.row_no, l.op, l.display_name, l.entity_type_id, l.details, %(batch_id)s,
       r.source_id
from affected_change j
join ledger l on l.entity_uid = j.entity_uid and l.change_ts = j.change_ts
    and l.batch_id = j.of_batch_id and l.row_no = j.of_row_no
join repeat r on r.entity_uid = j.entity_uid and r.change_ts = j.change_ts and r.batch_id = j.batch_id and r.row_no = j.row_no
where j.is_kept
order by j.entity_uid, j.change_ts, j.row_no
