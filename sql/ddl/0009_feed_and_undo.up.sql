-- The feed reads batches in the order in which they were committed, and of each batch the entities that it names, page by page.
-- A block range of the ledger would be read whole for each page of a large batch.
drop index batch_by_recorded_at;
create index batch_by_recorded_at on batch (recorded_at, batch_id);

drop index ledger_by_batch;
create index ledger_by_batch on ledger (batch_id, entity_uid);
