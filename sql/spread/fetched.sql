-- Fetch the rows of some entities, and let them hide the tables: for statements that Citus does not take, which end at the coordinator.
-- In: {which}, a condition. Out: common table expressions.
with entity as materialized (select * from entity where {which}),
entity_detail as materialized (select * from entity_detail where {which}),
ledger as materialized (select * from ledger where {which}),
repeat as materialized (select * from repeat where {which}),
snapshot_reject as materialized (select * from snapshot_reject where {which}),
stated_change as materialized (select * from stated_change where {which}),
drop_file as materialized (select * from drop_file),
named_by_source as materialized (select * from named_by_source where {which}),
named_by_batch as (
    select batch_id, entity_uid from ledger
    union all
    select batch_id, entity_uid from repeat
    union all
    select batch_id, entity_uid from snapshot_reject)
