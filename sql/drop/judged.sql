-- Tells which of some drops the database has judged: merged, refused, or whatever became of them after they were read.
-- In: sha256s. Out: sha256.
select sha256 from drop_file where sha256 = any (%(sha256s)s) and status <> 'seen'
