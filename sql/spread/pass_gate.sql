-- Wait while a merge is being committed on several machines, and keep the next one from it until the transaction ends.
-- In, out: nothing.
select pg_advisory_xact_lock_shared(3141592, 65)
