-- Copy the changes to fold again: the state of each entity before the first new one, and the ledger from there on.
-- In: refolded, entity, entity_detail, ledger. Out: recorded_change.
insert into recorded_change (entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details)
select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details
from reopened_changes()
