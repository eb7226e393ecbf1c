-- Link a key of a source to an entity, or with the key's own uid end its link.
-- In: key_uid, source_id, source_key, entity_uid, actor, reason, request_id. Out: outcome, batch_id.
select outcome, batch_id
from link_key(%(key_uid)s, %(source_id)s::smallint, %(source_key)s, %(entity_uid)s, %(actor)s, %(reason)s, %(request_id)s)
