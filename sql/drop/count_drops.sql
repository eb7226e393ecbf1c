-- Counts the drops that ever came.
-- In: nothing. Out: count.
select count(*) from drop_file
