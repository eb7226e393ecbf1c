-- Create the work tables of a snapshot, beside those of the merge.
-- In, out: nothing.
select create_snapshot_stage()
