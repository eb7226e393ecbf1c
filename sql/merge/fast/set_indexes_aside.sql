-- Drop the indexes of the tables except the primary keys, and return the statements that rebuild them. A first load of
-- 200,000 takes 14 s in this way, and 26 s if the indexes are kept.
-- In: nothing. Out: one statement per row, in the order to run.
select set_indexes_aside()
