-- Drop the work tables of this merge.
-- In, out: nothing.
select drop_spread_stage()
