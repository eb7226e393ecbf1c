-- Return the batches in which drops were recorded.
-- In: sha256s. Out: batch_id.
select batch_id from batch where drop_sha256 = any (%(sha256s)s::text[]) order by batch_id
