-- Return the next entities of which a known change says a name with a part, as known_uids does: no other can have had such a name. It may
-- have said so before the window, and what ends the entity says none.
-- In: as known_uids, and like (a pattern). Out: entity_uid.
select distinct entity_uid
from stated_change
where is_called(display_name, %(like)s)
  and (%(after_uid)s::uuid is null or entity_uid > %(after_uid)s) and change_ts <= %(to)s::timestamptz
order by entity_uid
limit %(limit)s
