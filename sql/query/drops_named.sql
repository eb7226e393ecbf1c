-- The drops that a text names: by the SHA-256, or by the name of the file under which it first came.
-- In: name. Out: sha256.
select sha256 from drop_file where sha256 = lower(%(name)s) or file_name = %(name)s
