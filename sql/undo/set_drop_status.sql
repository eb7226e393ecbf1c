-- Set what a drop is now: undone, or merged again.
-- In: sha256, status. Out: nothing.
update drop_file set status = %(status)s where sha256 = %(sha256)s
