-- Create the work tables of this merge, distributed.
-- In, out: nothing.
select create_spread_stage()
