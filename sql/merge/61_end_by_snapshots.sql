-- Add the ends by snapshots that follow from these changes (see snapshot_ends).
-- In: recorded_change as stated_change, snapshot. Out: recorded_change.
insert into recorded_change (entity_uid, change_ts, batch_id, row_no, op)
select entity_uid, change_ts, 0, 0, 'delete' from snapshot_ends()
