-- Append the changes to the ledger, in the order of its key.
-- In: staged_change, batch_id. Out: ledger.
insert into ledger (entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details, source_id)
select entity_uid, change_ts, %(batch_id)s, row_no, op, display_name, entity_type_id, details, source_id
from staged_change
order by entity_uid, change_ts, row_no
