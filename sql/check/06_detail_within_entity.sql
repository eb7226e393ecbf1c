-- A detail is valid only while its entity exists.
-- In: uids (null: all entities). Out: one line for each breach.
select format('entity %%s, detail %%s from %%s to %%s outlives its entity', d.entity_uid, d.detail_type_id, d.valid_from, d.valid_to)
from entity_detail d
left join (
    select entity_uid, range_agg(tstzrange(valid_from, valid_to, '[)')) as life
    from entity
    where %(uids)s::uuid[] is null or entity_uid = any (%(uids)s)
    group by entity_uid
) e on e.entity_uid = d.entity_uid
where (e.life @> tstzrange(d.valid_from, d.valid_to, '[)')) is not true
  and (%(uids)s::uuid[] is null or d.entity_uid = any (%(uids)s))
