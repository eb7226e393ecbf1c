-- Lock the buckets of the entities that batches name until the transaction ends, as a merge does.
-- In: batches, ledger, repeat, key_link. Out: nothing.
select lock_buckets(array(
    select distinct get_byte(uuid_send(entity_uid), 0) >> 2 as bucket
    from (
        select entity_uid from ledger where batch_id = any (%(batches)s::bigint[])
        union all
        select entity_uid from repeat where batch_id = any (%(batches)s::bigint[])
        union all
        select key_uid from key_link where batch_id = any (%(batches)s::bigint[])
    ) named
    order by bucket))
