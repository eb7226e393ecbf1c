-- The feed goes; the ledger stays.
drop index ledger_by_batch;
create index ledger_by_batch on ledger using brin (batch_id) with (pages_per_range = 16);

drop index batch_by_recorded_at;
create index batch_by_recorded_at on batch (recorded_at);
