-- The order of an index must not change with the operating system: this one was ordered by the database's collation.
drop index ledger_by_op;
create index ledger_by_op on ledger (op collate "C", batch_id, row_no) where op collate "C" <> 'upsert' and batch_id > 0;
