-- Some entities.
-- In: entity_uids. Out: a condition.
entity_uid = any (%(entity_uids)s::uuid[])
