-- Record that the batch is a snapshot, and what its rejected rows name.
-- In: batch_id, at, entity_type_ids; staged_reject, source_key. Out: snapshot, snapshot_reject.
with listed as (
    insert into snapshot_reject (entity_uid, batch_id)
    select entity_uid, %(batch_id)s::bigint from staged_reject
    union
    select k.entity_uid, %(batch_id)s::bigint from staged_reject r join source_key k on k.key_uid = r.entity_uid
)
insert into snapshot (batch_id, at, entity_type_ids)
values (%(batch_id)s, %(at)s, %(entity_type_ids)s::smallint[])
