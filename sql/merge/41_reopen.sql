-- Takes out of the ledger the changes that are folded anew.
-- In: reopened, which reads touched, entity, entity_detail and ledger. Out: events.
insert into events (entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details)
select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details
from reopened
