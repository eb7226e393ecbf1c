-- Have the entities folded again, each since the first of these changes.
-- In: judged_change. Out: named_entity.
insert into named_entity (entity_uid, since, route)
select entity_uid, min(change_ts), 'fold'
from judged_change
group by entity_uid
