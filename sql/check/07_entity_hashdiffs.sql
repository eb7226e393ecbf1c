-- Every entity hashdiff is the hash of the values in its row.
-- In: uids (null: all entities). Out: one line for each breach.
select format('entity %%s from %%s: hashdiff is not that of its values', entity_uid, valid_from)
from entity
join entity_type using (entity_type_id)
where hashdiff <> entity_hashdiff(display_name, code) and (%(uids)s::uuid[] is null or entity_uid = any (%(uids)s))
