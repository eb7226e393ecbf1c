-- Have the entities folded again, each since the first of these changes, or since the snapshot that does not list it.
-- In: affected_change, unlisted_entity. Out: named_entity.
insert into named_entity (entity_uid, since, route)
select entity_uid, min(since), 'fold'
from (
    select entity_uid, change_ts as since from affected_change
    union all
    select entity_uid, at from unlisted_entity
) touched
group by entity_uid
