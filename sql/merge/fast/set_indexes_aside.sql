-- Drop the indexes of the tables but their primary keys, and return the statements that build them again.
-- In: nothing. Out: one statement a row, in the order to run.
select set_indexes_aside()
