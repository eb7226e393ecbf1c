-- Return the next entities of which a known change says a name with a part, as known_uids does: no other can have had such a name. It may
-- have said so before the window, and what ends the entity says none.
-- Every name of the ledger is looked at. So this looks first for the plain letters of the part, which costs a tenth of the search form;
-- the letters that the search form makes plain ones of are translated, but for those that become 'ss'.
-- In: as known_uids, and like (a pattern). Out: entity_uid.
select distinct entity_uid
from stated_change
where translate(lower(display_name collate "C"), u&'\0131\0130\017F\212A\0307', 'iisk')
      like regexp_replace(search_form(%(like)s), '(ss|[^a-z0-9 ])+', '%%', 'g')
  and search_form(display_name) like search_form(%(like)s)
  and (%(after_uid)s::uuid is null or entity_uid > %(after_uid)s) and change_ts <= %(to)s::timestamptz
order by entity_uid
limit %(limit)s
