-- Return the next entities with a known change, in order of entity_uid: only these are folded for an answer with known_at. If a snapshot
-- lies in the window, any entity of before may have ended there.
-- In: after_uid (null: from the start), from and to (instants of the changes; from itself is excluded), limit. Out: entity_uid.
select distinct entity_uid
from stated_change
where (%(after_uid)s::uuid is null or entity_uid > %(after_uid)s) and change_ts <= %(to)s::timestamptz
  and (change_ts > %(from)s::timestamptz
       or exists (select from snapshot where acts and at > %(from)s::timestamptz and at <= %(to)s::timestamptz))
order by entity_uid
limit %(limit)s
