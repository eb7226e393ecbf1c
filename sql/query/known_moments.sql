-- Return the next moments, each an entity and an instant, with a known change, in order of (instant, entity_uid); and those at which a
-- snapshot may have ended an entity, because it does not list it.
-- In: after_at and after_uid (the moment before the first), to, limit. Out: at, entity_uid.
select change_ts, entity_uid
from stated_change
where change_ts >= %(after_at)s and change_ts <= %(to)s and (change_ts, entity_uid) > (%(after_at)s, %(after_uid)s)
union
select s.at, e.entity_uid
from snapshot s
cross join (
    select distinct entity_uid
    from stated_change
    where op = 'upsert' and exists (select from snapshot where acts and at >= %(after_at)s and at <= %(to)s)
) e
where s.acts and s.at >= %(after_at)s and s.at <= %(to)s and (s.at, e.entity_uid) > (%(after_at)s, %(after_uid)s)
  and (select true from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = e.entity_uid limit 1) is null
order by 1, 2
limit %(limit)s
