-- Return the next moments, each an entity and an instant, at which a version begins or ends, in order of (instant, entity_uid).
-- In: after_at and after_uid (the moment before the first), to, limit. Out: at, entity_uid.
select at, entity_uid
from (
    (select distinct at, entity_uid
     from entity
     cross join lateral (values (valid_from), (valid_to)) as either (at)
     where ((valid_from >= %(after_at)s and valid_from <= %(to)s) or (valid_to >= %(after_at)s and valid_to <= %(to)s))
       and at <= %(to)s and (at, entity_uid) > (%(after_at)s, %(after_uid)s)
     order by at, entity_uid
     limit %(limit)s)
    union
    (select distinct at, entity_uid
     from entity_detail
     cross join lateral (values (valid_from), (valid_to)) as either (at)
     where ((valid_from >= %(after_at)s and valid_from <= %(to)s) or (valid_to >= %(after_at)s and valid_to <= %(to)s))
       and at <= %(to)s and (at, entity_uid) > (%(after_at)s, %(after_uid)s)
     order by at, entity_uid
     limit %(limit)s)
) moment
order by at, entity_uid
limit %(limit)s
