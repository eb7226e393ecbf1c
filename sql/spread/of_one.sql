-- Fetch the rows of the entity of a request, and let them hide the tables: a part of record_change, which compares and folds at the
-- coordinator. In: its_uid. Out: common table expressions.
with entity as materialized (select * from entity where entity_uid = its_uid),
entity_detail as materialized (select * from entity_detail where entity_uid = its_uid),
ledger as materialized (select * from ledger where entity_uid = its_uid),
repeat as materialized (select * from repeat where entity_uid = its_uid),
snapshot_reject as materialized (select * from snapshot_reject where entity_uid = its_uid),
named_by_batch as (
    select batch_id, entity_uid, source_id, change_ts from ledger
    union all
    select batch_id, entity_uid, source_id, change_ts from repeat
    union all
    select batch_id, entity_uid, null, null from snapshot_reject),
named_by_source as (
    select batch_id, entity_uid, source_id, change_ts
    from named_by_batch
    where source_id is not null and batch_id not in (select of_batch_id from undone_batches('infinity')))
