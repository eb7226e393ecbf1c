-- Return the next entities with a known change, in order of entity_uid: only these are folded for an answer with known_at.
-- In: after_uid (null: from the start), from and to (instants of the changes; from itself is excluded), limit. Out: entity_uid.
select distinct entity_uid
from recorded_change
where (%(after_uid)s::uuid is null or entity_uid > %(after_uid)s) and change_ts > %(from)s::timestamptz and change_ts <= %(to)s::timestamptz
order by entity_uid
limit %(limit)s
