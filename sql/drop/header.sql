-- The header of a drop as it stood.
-- In: sha256. Out: header, null if no row was rejected; none if no such drop ever came.
select header from drop_file where sha256 = %(sha256)s
