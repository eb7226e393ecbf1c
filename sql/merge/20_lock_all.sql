-- Takes the locks of all entities, in order, until the transaction ends: a drop that is merged in parts takes them at once, for
-- two that took them part by part could wait for each other. In: nothing. Out: one row a lock.
select pg_advisory_xact_lock(3141592, bucket) from generate_series(0, 63) bucket
