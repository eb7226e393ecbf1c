-- Return the next moments, each an entity and an instant, with a known change, in order of (instant, entity_uid).
-- In: after_at and after_uid (the moment before the first), to, limit. Out: at, entity_uid.
select distinct change_ts, entity_uid
from recorded_change
where change_ts >= %(after_at)s and change_ts <= %(to)s and (change_ts, entity_uid) > (%(after_at)s, %(after_uid)s)
order by change_ts, entity_uid
limit %(limit)s
