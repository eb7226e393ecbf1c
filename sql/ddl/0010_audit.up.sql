-- The audit across entities: what was recorded, the newest first, by who recorded it, by operation and by type of detail.

-- Few changes are deletions or partial.
create index ledger_by_op on ledger (op, batch_id, row_no) where op <> 'upsert';

-- The changes that state a detail of a type, which may be few.
create index ledger_by_detail_type on ledger using gin (jsonb_path_query_array(details, '$.keyvalue().key') jsonb_path_ops);

create index batch_by_actor on batch (actor, recorded_at);

-- The audit walks the changes of an entity once for a page, and looked each state up in all of them before.
drop function if exists recorded_state(uuid, timestamptz, bigint, integer);
