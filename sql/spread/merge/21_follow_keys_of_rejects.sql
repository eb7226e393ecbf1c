-- Give the rejected rows of a snapshot that name their entity by a linked key the entity of the link.
-- In: staged_reject, source_key. Out: staged_reject.
select follow_keys_of_rejects()
