-- Record that the batch is a snapshot, and what its rejected rows name.
-- In: batch_id, at, its scope (entity_type_ids, or source_id); staged_reject. Out: snapshot, snapshot_reject.
with listed as (
    insert into snapshot_reject (entity_uid, batch_id)
    select distinct entity_uid, %(batch_id)s::bigint from staged_reject
)
insert into snapshot (batch_id, at, entity_type_ids, source_id)
values (%(batch_id)s, %(at)s, %(entity_type_ids)s::smallint[], %(source_id)s)
