-- Record that batches are undone, or reinstated.
-- In: batches, batch_id (by which), is_reinstated, reason. Out: retraction.
insert into retraction (of_batch_id, batch_id, is_reinstated, reason)
select of_batch_id, %(batch_id)s, %(is_reinstated)s, %(reason)s
from unnest(%(batches)s::bigint[]) as of_batch_id
