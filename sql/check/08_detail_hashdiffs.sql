-- Every detail hashdiff is the hash of the value in its row.
-- In: uids (null: all entities). Out: one line for each breach.
select format('entity %%s, %%s from %%s: hashdiff is not that of its value', entity_uid, code, valid_from)
from entity_detail
join detail_type using (detail_type_id)
where hashdiff <> detail_hashdiff(code, detail_value, compares) and (%(uids)s::uuid[] is null or entity_uid = any (%(uids)s))
