-- A key of a source has the uid that follows from both and names what its last link says; rows of a source are of entities with a key.
-- Links that are undone say nothing of what a key names now, but an entity that ever had a key had one.
-- In: uids (null: all entities). Out: one line for each breach.
select format('key %%s of source %%s names %%s', k.source_key, coalesce(s.code, k.source_id::text), k.entity_uid)
from source_key k
left join source s on s.source_id = k.source_id
left join lateral (
    select l.entity_uid
    from key_link l
    where l.key_uid = k.key_uid and l.batch_id not in (select u.of_batch_id from undone_batches('infinity') u)
    order by l.batch_id desc
    limit 1
) linked on true
where (%(uids)s::uuid[] is null or k.entity_uid = any (%(uids)s::uuid[]))
  and (s.code is null or k.key_uid <> key_uid(s.code, k.source_key) or k.entity_uid <> coalesce(linked.entity_uid, k.key_uid))
union all
select format('a row of source %%s is of entity %%s, of which it has no key', n.source_id, n.entity_uid)
from (
    select distinct source_id, entity_uid
    from named_by_batch
    where source_id is not null and (%(uids)s::uuid[] is null or entity_uid = any (%(uids)s::uuid[]))
) n
where not exists (select from source_key k where k.entity_uid = n.entity_uid and k.source_id = n.source_id)
  and not exists (select from source_key k where k.key_uid = n.entity_uid and k.source_id = n.source_id)
  and not exists (
      select from key_link l join source_key k on k.key_uid = l.key_uid where l.entity_uid = n.entity_uid and k.source_id = n.source_id)
