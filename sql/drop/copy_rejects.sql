-- Keep rejected rows.
-- In: rows of the columns named. Out: nothing.
copy reject (drop_sha256, line, reasons, raw) from stdin
