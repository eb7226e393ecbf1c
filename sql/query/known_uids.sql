-- The next entities of which a change was known, in order of entity_uid: only these are folded to answer as known at an instant.
-- In: after_uid (null: from the start), from and to (of the changes' instants; from itself is not inside), limit. Out: entity_uid.
select distinct entity_uid
from recorded_change
where (%(after_uid)s::uuid is null or entity_uid > %(after_uid)s) and change_ts > %(from)s::timestamptz and change_ts <= %(to)s::timestamptz
order by entity_uid
limit %(limit)s
