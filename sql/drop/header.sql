-- Return the header of a drop, unchanged.
-- In: sha256. Out: header, null if no row was rejected; no row if no such drop was ever received.
select header from drop_file where sha256 = %(sha256)s
