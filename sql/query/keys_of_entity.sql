-- Return the keys by which the sources name an entity.
-- In: entity_uid, limit. Out: source, source_key, is_linked (its own entity is another), in order of both.
select s.code, k.source_key, k.key_uid <> k.entity_uid
from source_key k
join source s on s.source_id = k.source_id
where k.entity_uid = %(entity_uid)s
order by s.code, k.source_key
limit %(limit)s
