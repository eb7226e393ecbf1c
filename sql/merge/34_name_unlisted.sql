-- Have the entities that the snapshot does not list folded again, each since its instant.
-- In: unlisted_entity, batch_id. Out: named_entity.
insert into named_entity (entity_uid, since, effect_of, route)
select entity_uid, at, %(batch_id)s::bigint, 'fold' from unlisted_entity
