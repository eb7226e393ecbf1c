-- Delete the bytes that were kept of a held drop.
-- In: sha256. Out: nothing.
delete from held_part where drop_sha256 = %(sha256)s
