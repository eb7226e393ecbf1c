-- Take the keys that rows of a drop state for their entities, and that named none before.
-- In: rows of the columns named. Out: stated_key.
copy stated_key (row_no, key_uid, source_id, source_key, entity_uid) from stdin
