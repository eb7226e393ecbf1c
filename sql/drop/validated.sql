-- Return which of these drops were read and validated, whatever the result.
-- In: sha256s. Out: sha256.
select sha256 from drop_file where sha256 = any (%(sha256s)s) and status <> 'seen'
