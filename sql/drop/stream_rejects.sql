-- Return all rejected rows of a drop, in order of their lines.
-- In: sha256. Out: rows in binary form: line, reasons, raw.
copy (select line, reasons, raw from reject where drop_sha256 = %(sha256)s order by line) to stdout (format binary)
