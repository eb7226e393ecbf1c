-- Create the work tables of this merge.
-- In, out: nothing.
select create_stage()
