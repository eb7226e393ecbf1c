-- Where few changes were partial when statistics were last taken, the planner took the index by operation for the merge's question "is
-- there a later partial change of this entity?", and read all partial changes for each row of a drop. So the index has a condition that
-- always holds and that only the audit states; the merge is left with the index that is made for it.
drop index ledger_by_op;
create index ledger_by_op on ledger (op, batch_id, row_no) where op <> 'upsert' and batch_id > 0;
