-- Lock the key of a request until the transaction ends, against the same request under it.
-- In: actor, key. Out: nothing.
select pg_advisory_xact_lock(hashtextextended(%(actor)s || ' ' || %(key)s, 1))
