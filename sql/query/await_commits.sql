-- Wait for the batches that are being committed, so that a read with known_at sees all batches of an earlier time.
-- In, out: nothing.
select pg_advisory_lock(3141592, 64), pg_advisory_unlock(3141592, 64)
