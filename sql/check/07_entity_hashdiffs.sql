-- Every entity hashdiff is that of the values it stands beside.
-- In: uids (null: all entities). Out: one line a breach.
select format('entity %%s from %%s: hashdiff is not that of its values', entity_uid, valid_from)
from entity
join entity_type using (entity_type_id)
where hashdiff <> entity_hashdiff(display_name, code) and (%(uids)s::uuid[] is null or entity_uid = any (%(uids)s))
