-- The index by operation is ordered by the database's collation again.
drop index ledger_by_op;
create index ledger_by_op on ledger (op, batch_id, row_no) where op <> 'upsert' and batch_id > 0;
