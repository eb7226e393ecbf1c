-- Wait for the batches that are being committed, and keep others from it until the transaction ends.
-- In, out: nothing.
select pg_advisory_xact_lock(3141592, 64)
