-- Keep the header of a drop, for a file of its rejects.
-- In: sha256, header. Out: nothing.
update drop_file set header = %(header)s where sha256 = %(sha256)s and header is null
