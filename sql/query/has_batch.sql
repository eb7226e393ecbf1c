-- Return whether a batch was recorded at this moment: a cursor may be of a database that was restored to an earlier moment since.
-- In: batch_id, recorded_at. Out: one row: is_there.
select exists (select from batch where batch_id = %(batch_id)s and recorded_at = %(recorded_at)s)
