-- Find drops by the name of the file, the SHA-256 of its bytes, or the beginning of the SHA-256 by which they are known.
-- In: name. Out: sha256, status.
select sha256, status from drop_file where file_name = %(name)s or content_sha256 = %(name)s or (%(name)s ~* '^[0-9a-f]{6,64}$' and starts_with(sha256, lower(%(name)s collate "C")))
