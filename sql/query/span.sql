-- Return when an entity first began and when it last ended, in ISO 8601.
-- In: entity_uid. Out: began_at (null: it never existed), ended_at (null: it has never ended).
select utc(min(valid_from)), utc(max(valid_to)) from entity where entity_uid = %(entity_uid)s
