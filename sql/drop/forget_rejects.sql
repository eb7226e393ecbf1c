-- Delete the rejects of an earlier attempt at a drop that was not merged.
-- In: sha256. Out: nothing.
delete from reject where drop_sha256 = %(sha256)s
