-- Find drops by the name of the file or the beginning of the SHA-256.
-- In: name. Out: sha256.
select sha256 from drop_file where file_name = %(name)s or (%(name)s ~* '^[0-9a-f]{6,64}$' and starts_with(sha256, lower(%(name)s collate "C")))
