-- Lock all buckets of entities until the transaction ends: a snapshot is about those too that it does not name. See 20_lock_entities.
-- In, out: nothing.
select lock_buckets(array(select generate_series(0, 63)))
