-- Return the first rejected rows of a drop.
-- In: sha256, limit. Out: line, reasons, raw, in order of line.
select line, reasons, raw from reject where drop_sha256 = %(sha256)s order by line limit %(limit)s
