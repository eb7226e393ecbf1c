-- Keep the keys that are new, in the order of their uids.
-- In: staged_change, stated_key, batch_id. Out: source_key.
insert into source_key (key_uid, source_id, source_key, entity_uid, batch_id)
select key_uid, min(source_id), min(source_key), key_uid, %(batch_id)s
from (
    select key_uid, source_id, source_key from staged_change where key_uid is not null
    union all
    select key_uid, source_id, source_key from stated_key
) named
where not exists (select from source_key k where k.key_uid = named.key_uid)
group by key_uid
order by key_uid
on conflict do nothing
