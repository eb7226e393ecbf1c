-- Return the net changes of some entities between two instants, one document per entity in order of entity_uid.
-- In: entity_uids, from, to. Out: document, entity_uid.
select n.document, n.entity_uid
from unnest(%(entity_uids)s::uuid[]) asked (entity_uid)  -- by the key, one by one: asked for together, it would take the window of time
cross join lateral (select * from net_changes(%(from)s, %(to)s) net where net.entity_uid = asked.entity_uid offset 0) n
order by n.entity_uid
