-- Fold the entity of a request in the place of the views in the schema single; behind of_one.
-- In: its_uid, its_ts; {kind}, entity or detail. Out: the differences.
refolded as materialized (select its_uid as entity_uid, its_ts as since),
stated_change as materialized (select * from reopened_changes() reopened),
recorded_change as materialized (
    select * from stated_change
    union all
    select entity_uid, change_ts, 0, 0, 'delete', null, null, null from snapshot_ends())
select row(d.*)::single.{kind}_difference from {kind}_differences() d
