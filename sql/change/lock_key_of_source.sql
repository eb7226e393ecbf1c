-- Lock a key of a source and the entity that it names for a request until the transaction ends.
-- In: key_uid. Out: entity_uid.
select lock_key_of_source(%(key_uid)s)
