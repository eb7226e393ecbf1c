-- Count the moments, each an entity and an instant, at which a version begins or ends within a window, up to a number of them.
-- At one moment an entity and each of its details may end and begin: this many times `at_most` beginnings and ends always contain
-- that many moments.
-- In: from, to, entity_uids (null: all), at_most (null: all). Out: count.
select count(*)
from (
    select *
    from (
        (select at, entity_uid
         from entity
         cross join lateral (values (valid_from), (valid_to)) as either (at)
         where (%(entity_uids)s::uuid[] is null or entity_uid = any (%(entity_uids)s))
           and ((valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s))
           and at > %(from)s and at <= %(to)s
         limit 2 * %(at_most)s)
        union
        (select at, entity_uid
         from entity_detail
         cross join lateral (values (valid_from), (valid_to)) as either (at)
         where (%(entity_uids)s::uuid[] is null or entity_uid = any (%(entity_uids)s))
           and ((valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s))
           and at > %(from)s and at <= %(to)s
         limit 2 * %(at_most)s * (select count(*) from detail_type))
    ) moment
    limit %(at_most)s
) counted
