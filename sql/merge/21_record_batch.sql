-- Record the batch: the place of this transaction in recording order, and its time.
-- In: actor, source, drop_sha256, request_id. Out: batch_id, recorded_at.
select batch_id, recorded_at from record_batch(%(actor)s, %(source)s, %(drop_sha256)s, %(request_id)s)
