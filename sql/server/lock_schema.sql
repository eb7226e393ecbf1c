-- Lets one migration at a time change the schema, until the transaction ends.
-- In: nothing. Out: one empty row, when the lock is ours.
select pg_advisory_xact_lock(2718281, 0)
