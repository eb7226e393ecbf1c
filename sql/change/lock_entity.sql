-- Locks one entity for a request until the transaction ends, as request_change does.
-- In: entity_uid. Out: nothing.
select lock_entity(%(entity_uid)s)
