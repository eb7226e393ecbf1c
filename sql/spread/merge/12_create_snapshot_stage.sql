-- Create the work tables of a snapshot, distributed.
-- In, out: nothing.
select create_spread_snapshot_stage()
