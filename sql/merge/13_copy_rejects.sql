-- Take the entities of the rejected rows of a snapshot, as far as they can be told.
-- In: rows of the column named. Out: staged_reject.
copy staged_reject (entity_uid) from stdin
