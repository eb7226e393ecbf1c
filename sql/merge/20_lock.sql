-- Takes the locks of the entities that the drop names, by the leading six bits of the uid, in order, until the transaction ends.
-- A statement that comes after sees all that an earlier holder committed. In: nothing. Out: one row a lock.
select pg_advisory_xact_lock(3141592, bucket)
from (select distinct get_byte(uuid_send(entity_uid), 0) >> 2 as bucket from stage_change order by bucket) locks
