-- One entity.
-- In: entity_uid. Out: a condition.
entity_uid = %(entity_uid)s::uuid
