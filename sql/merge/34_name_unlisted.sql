-- Have the entities that the snapshot does not list folded again, each since its instant.
-- In: unlisted_entity. Out: named_entity.
insert into named_entity (entity_uid, since, route)
select entity_uid, at, 'fold' from unlisted_entity
