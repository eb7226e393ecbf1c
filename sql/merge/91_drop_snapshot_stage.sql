-- Drop the work tables of a snapshot.
-- In, out: nothing.
select drop_snapshot_stage()
