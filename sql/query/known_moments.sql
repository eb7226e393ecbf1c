-- The next moments, an entity and an instant each, of which a change was known, in order of (instant, entity_uid).
-- In: after_at and after_uid (the moment before the first), to, limit. Out: at, entity_uid.
select distinct change_ts, entity_uid
from recorded_change
where change_ts >= %(after_at)s and change_ts <= %(to)s and (change_ts, entity_uid) > (%(after_at)s, %(after_uid)s)
order by change_ts, entity_uid
limit %(limit)s
