-- Lock what the drop names, and find the entities that it names by linked keys (see sql/routines/45_keys.sql).
-- In: staged_change, stated_key, source_key. Out: entity_uid of staged_change; has_keys, has_stated.
select has_keys, has_stated from follow_keys()
