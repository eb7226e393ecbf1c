-- Lock the buckets of the entities that the drop names until the transaction ends. A statement that comes after sees all that an
-- earlier holder committed. In: staged_change. Out: nothing.
select lock_buckets(array(
    select distinct get_byte(uuid_send(entity_uid), 0) >> 2 as bucket from staged_change order by bucket))
