-- Drops the indexes and keys of the empty tables and answers the statements that make them again.
-- In: nothing. Out: one statement a row, in the order to run.
select set_indexes_aside()
