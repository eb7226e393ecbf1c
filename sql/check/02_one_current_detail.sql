-- A detail has at most one current version.
-- In: uids (null: all entities). Out: one line for each breach.
select format('detail %%s of entity %%s has %%s current versions', detail_type_id, entity_uid, count(*))
from entity_detail
where is_current and (%(uids)s::uuid[] is null or entity_uid = any (%(uids)s))
group by entity_uid, detail_type_id
having count(*) > 1
