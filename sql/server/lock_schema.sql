-- Lock the schema until the transaction ends, so that one migration at a time changes it.
-- In: nothing. Out: one empty row, when the lock is held.
select pg_advisory_xact_lock(2718281, 0)
