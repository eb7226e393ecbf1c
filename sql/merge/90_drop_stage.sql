-- Drop the work tables of this merge: their names would hide other tables from the rest of the transaction.
-- In, out: nothing.
select drop_stage()
