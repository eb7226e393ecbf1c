-- Keep the keys that are new, in the order of their uids, each as naming the entity of the row that states it, or its own.
-- In: staged_change, stated_key, batch_id. Out: source_key.
insert into source_key (key_uid, source_id, source_key, entity_uid, batch_id)
select named.key_uid, min(named.source_id), min(named.source_key), coalesce(s.entity_uid, named.key_uid), %(batch_id)s
from (
    select key_uid, source_id, source_key from staged_change where key_uid is not null
    union all
    select key_uid, source_id, source_key from stated_key
) named
left join stated_key s on s.key_uid = named.key_uid
where not exists (select from source_key k where k.key_uid = named.key_uid)
group by named.key_uid, s.entity_uid
order by named.key_uid
on conflict do nothing
