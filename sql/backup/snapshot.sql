-- Export the snapshot of this transaction, and return the moment up to which it has everything that was recorded, if no batch is
-- being committed meanwhile. In: nothing. Out: taken_at, snapshot.
select greatest(clock_timestamp(), (select max(recorded_at) from batch)), pg_export_snapshot()
