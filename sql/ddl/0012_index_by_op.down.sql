-- The merge may take the index by operation again.
drop index ledger_by_op;
create index ledger_by_op on ledger (op, batch_id, row_no) where op <> 'upsert';
