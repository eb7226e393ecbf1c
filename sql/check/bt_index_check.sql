-- Check that an index is in order and has an entry for each row; amcheck raises an error if not.
-- In: index. Out: nothing.
select bt_index_check(%(index)s::regclass, true)
