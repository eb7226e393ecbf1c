-- Count the entities that a snapshot would end, and name the first by their names.
-- In: unlisted_entity, limit. Out: would_end, first_uids, first_names.
select (select count(*) from unlisted_entity where is_ending),
       coalesce(array_agg(entity_uid order by display_name, entity_uid), '{}'),
       coalesce(array_agg(display_name order by display_name, entity_uid), '{}')
from (
    select entity_uid, display_name from unlisted_entity where is_ending order by display_name, entity_uid limit %(limit)s
) first
