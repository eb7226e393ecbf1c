-- Return the net changes of some entities between two instants, one document per entity in order of entity_uid.
-- In: entity_uids, from, to. Out: document, entity_uid.
select document, entity_uid
from net_changes(%(from)s, %(to)s)
where entity_uid = any (%(entity_uids)s::uuid[])
order by entity_uid
