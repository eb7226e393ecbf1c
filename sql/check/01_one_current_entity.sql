-- An entity has at most one current version.
-- In: uids (null: all entities). Out: one line for each breach.
select format('entity %%s has %%s current versions', entity_uid, count(*))
from entity
where is_current and (%(uids)s::uuid[] is null or entity_uid = any (%(uids)s))
group by entity_uid
having count(*) > 1
