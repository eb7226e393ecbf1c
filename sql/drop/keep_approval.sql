-- Keep who sent a drop that was held, and why it was approved, with the batch that it became.
-- In: sha256, batch_id, reason. Out: nothing.
insert into approval (batch_id, sent_by, reason)
select %(batch_id)s, sent_by, %(reason)s
from held_drop
where drop_sha256 = %(sha256)s
