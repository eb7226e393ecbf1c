-- Return whether one of the batches is a snapshot.
-- In: batches. Out: has_snapshots.
select exists (select from snapshot where batch_id = any (%(batches)s::bigint[]))
