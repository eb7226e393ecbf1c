-- Mark which snapshots act now.
-- In: batches, is_reinstated. Out: snapshot.
update snapshot set acts = %(is_reinstated)s where batch_id = any (%(batches)s::bigint[])
