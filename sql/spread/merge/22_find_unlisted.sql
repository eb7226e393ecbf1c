-- Find the entities of the scope that exist just before a snapshot and are not listed by it.
-- In: at, its scope (entity_type_ids, or source_id); staged_change, staged_reject, entity. Out: unlisted_entity; the number of all entities of the scope.
select find_unlisted(%(at)s::timestamptz, %(entity_type_ids)s::smallint[], %(source_id)s::smallint)
