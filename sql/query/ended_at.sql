-- When an entity last ended.
-- In: entity_uid. Out: ended_at, null if it was never known or has not ended.
select utc(max(valid_to)) from entity where entity_uid = %(entity_uid)s
