-- Have the entities folded again, each since the first of these changes, or since the snapshot that does not list it.
-- In: affected_change, unlisted_entity. Out: named_entity.
insert into named_entity (entity_uid, since, effect_of, route)
select entity_uid, min(since), min(of_batch_id), 'fold'
from (
    select entity_uid, change_ts as since, null::bigint as of_batch_id from affected_change
    union all
    select entity_uid, at, of_batch_id from unlisted_entity
) touched
group by entity_uid
