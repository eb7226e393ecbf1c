-- What batches are, and whether they are undone.
-- In: batches. Out: batch_id, source, drop_sha256, is_undone; one row for each that is known.
select batch_id, source, drop_sha256, batch_id in (select of_batch_id from undone_batches('infinity'))
from batch
where batch_id = any (%(batches)s::bigint[])
order by batch_id
