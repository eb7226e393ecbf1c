-- Count the drops that were ever received.
-- In: nothing. Out: count.
select count(*) from drop_file
