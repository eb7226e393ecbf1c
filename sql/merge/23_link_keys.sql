-- Link the keys that named no entity to the one of the row that states them; those that are new name it already.
-- In: stated_key, batch_id. Out: key_link; entity_uid of source_key.
with linked as (
    insert into key_link (key_uid, batch_id, row_no, entity_uid)
    select key_uid, %(batch_id)s, row_no, entity_uid
    from stated_key
    returning key_uid, entity_uid
)
update source_key k
set entity_uid = linked.entity_uid
from linked
where k.key_uid = linked.key_uid and k.entity_uid <> linked.entity_uid
