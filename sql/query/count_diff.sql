-- Count those of some or all entities that differ between two instants.
-- In: from, to, entity_uids (null: all). Out: count.
select count(*)
from net_changes(%(from)s, %(to)s)
where %(entity_uids)s::uuid[] is null or entity_uid = any (%(entity_uids)s)
