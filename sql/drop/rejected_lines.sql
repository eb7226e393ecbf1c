-- Return the lines of a drop that were rejected.
-- In: sha256. Out: rows in binary form: line.
copy (select line from reject where drop_sha256 = %(sha256)s order by line) to stdout (format binary)
