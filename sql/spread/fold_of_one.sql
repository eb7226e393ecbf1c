-- Fold the entity of a request at the coordinator: what it stands on is fetched. A part of record_change in the place of its views in the
-- schema single. In: its_uid, its_ts; {kind}, entity or detail. Out: the differences.
with entity as materialized (select * from entity where entity_uid = its_uid),
entity_detail as materialized (select * from entity_detail where entity_uid = its_uid),
ledger as materialized (select * from ledger where entity_uid = its_uid),
repeat as materialized (select * from repeat where entity_uid = its_uid),
snapshot_reject as materialized (select * from snapshot_reject where entity_uid = its_uid),
named_by_batch as (
    select batch_id, entity_uid from ledger
    union all
    select batch_id, entity_uid from repeat
    union all
    select batch_id, entity_uid from snapshot_reject),
refolded as materialized (select its_uid as entity_uid, its_ts as since),
stated_change as materialized (select * from reopened_changes() reopened),
recorded_change as materialized (
    select * from stated_change
    union all
    select entity_uid, change_ts, 0, 0, 'delete', null, null, null from snapshot_ends())
select row(d.*)::single.{kind}_difference from {kind}_differences() d
