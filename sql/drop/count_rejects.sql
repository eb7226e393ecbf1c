-- Count the rejected rows of a drop.
-- In: sha256. Out: count.
select count(*) from reject where drop_sha256 = %(sha256)s
