-- Return the entity that a key of a source names.
-- In: key_uid. Out: entity_uid.
select entity_of_key(%(key_uid)s)
