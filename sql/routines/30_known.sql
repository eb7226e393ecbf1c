-- Reads with known_at: the views of this schema have the names of the tables, so with it first in the search path the same queries
-- answer from the changes recorded up to the setting crm.known_at.
create or replace view known.ledger as
select * from ledger
where (select batch.recorded_at from batch where batch.batch_id = ledger.batch_id)
      <= current_setting('crm.known_at')::timestamptz;  -- a look-up for each change, also where nested loops are off

create or replace view known.recorded_change as
select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details from known.ledger;

create or replace view known.entity as
select entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, valid_to is null as is_current
from folded_entities();

create or replace view known.entity_detail as
select entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, valid_to is null as is_current
from folded_details();
