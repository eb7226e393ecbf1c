-- What the view named_by_source is on several machines: whether a batch was undone is looked up for each of its rows, where they are.
-- In: said_by_source, retraction. Out: source_id, entity_uid, change_ts, batch_id.
select source_id, entity_uid, change_ts, batch_id
from said_by_source n
where coalesce((select r.is_reinstated from retraction r where r.of_batch_id = n.batch_id order by r.batch_id desc limit 1), true)
