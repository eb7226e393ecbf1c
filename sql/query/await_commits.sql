-- Waits for the batches that are being committed, so that a read as known at an instant sees all that are of an earlier moment.
-- In, out: nothing.
select pg_advisory_lock(3141592, 64), pg_advisory_unlock(3141592, 64)
