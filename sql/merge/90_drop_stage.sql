-- Drop the work tables of this merge: their names would hide others from what the transaction reads next.
-- In, out: nothing.
select drop_stage()
