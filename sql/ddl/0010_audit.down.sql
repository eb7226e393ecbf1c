-- Takes the indexes of the audit across entities away again.
drop index batch_by_actor;
drop index ledger_by_detail_type;
drop index ledger_by_op;
