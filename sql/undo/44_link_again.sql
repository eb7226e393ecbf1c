-- Let the keys that batches have linked name what the last link that is not undone says, or the entity of their own.
-- In: batches, key_link, retraction. Out: entity_uid of source_key.
update source_key k
set entity_uid = coalesce((
    select l.entity_uid
    from key_link l
    where l.key_uid = k.key_uid and l.batch_id not in (select of_batch_id from undone_batches('infinity'))
    order by l.batch_id desc
    limit 1), k.key_uid)
where k.key_uid in (select key_uid from key_link where batch_id = any (%(batches)s::bigint[]))
