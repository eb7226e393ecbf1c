-- Give the rejected rows of a snapshot that name their entity by a linked key the entity of the link.
-- In: staged_reject, source_key. Out: staged_reject.
update staged_reject r
set entity_uid = k.entity_uid
from source_key k
where k.key_uid = r.entity_uid and k.entity_uid <> k.key_uid
