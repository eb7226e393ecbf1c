-- The names that some entities have now, or had last.
-- In: entity_uids. Out: entity_uid, display_name; nothing of an entity that never was.
select asked.entity_uid, last.display_name
from (select distinct unnest(%(entity_uids)s::uuid[])) as asked (entity_uid)
cross join lateral (
    select e.display_name from entity e where e.entity_uid = asked.entity_uid order by e.valid_from desc limit 1
) last
