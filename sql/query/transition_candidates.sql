-- The next moments, an entity and an instant each, at which a version begins or ends, in order of (instant, entity_uid).
-- In: after_at and after_uid (the moment before the first), to, limit, offset. Out: at, entity_uid.
select at, entity_uid
from (
    (select valid_from as at, entity_uid
     from entity
     where valid_from >= %(after_at)s and valid_from <= %(to)s and (valid_from, entity_uid) > (%(after_at)s, %(after_uid)s)
     order by valid_from, entity_uid
     limit %(offset)s::bigint + %(limit)s)
    union
    (select valid_to, entity_uid
     from entity
     where valid_to >= %(after_at)s and valid_to <= %(to)s and (valid_to, entity_uid) > (%(after_at)s, %(after_uid)s)
     order by valid_to, entity_uid
     limit %(offset)s::bigint + %(limit)s)
    union
    (select distinct valid_from, entity_uid
     from entity_detail
     where valid_from >= %(after_at)s and valid_from <= %(to)s and (valid_from, entity_uid) > (%(after_at)s, %(after_uid)s)
     order by valid_from, entity_uid
     limit %(offset)s::bigint + %(limit)s)
    union
    (select distinct valid_to, entity_uid
     from entity_detail
     where valid_to >= %(after_at)s and valid_to <= %(to)s and (valid_to, entity_uid) > (%(after_at)s, %(after_uid)s)
     order by valid_to, entity_uid
     limit %(offset)s::bigint + %(limit)s)
) moment
order by at, entity_uid
limit %(limit)s offset %(offset)s
