-- Keep migrations waiting until the session ends: they lock the same alone.
-- In: nothing. Out: one empty row, when no migration runs.
select pg_advisory_lock_shared(2718281, 0)
