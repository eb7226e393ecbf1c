-- Drop the indexes and keys of the empty tables and return the statements that build them again.
-- In: nothing. Out: one statement a row, in the order to run.
select set_indexes_aside()
