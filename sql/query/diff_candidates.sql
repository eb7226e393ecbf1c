-- Return the next entities in order of entity_uid that have a version, or a detail version, which begins or ends in a window.
-- In: from, to, after_uid (null: from the start), limit. Out: entity_uid.
select entity_uid
from (
    (select distinct entity_uid
     from entity
     where (%(after_uid)s::uuid is null or entity_uid > %(after_uid)s)
       and ((valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s))
     order by entity_uid
     limit %(limit)s)
    union
    (select distinct entity_uid
     from entity_detail
     where (%(after_uid)s::uuid is null or entity_uid > %(after_uid)s)
       and ((valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s))
     order by entity_uid
     limit %(limit)s)
) candidate
order by entity_uid
limit %(limit)s
