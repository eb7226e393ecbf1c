-- Keep batches from being committed until the transaction ends, and wait for those that are being committed.
-- In: nothing. Out: one empty row, when none is.
select pg_advisory_xact_lock(3141592, 64)
