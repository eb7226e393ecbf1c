-- Counts the moments, an entity and an instant each, at which a version begins or ends within a window, up to a number of them.
-- As many details as there are types may begin at one moment, so of so many times that number enough are different moments.
-- In: from, to, at_most (null: all). Out: count.
select count(*)
from (
    select *
    from (
        (select valid_from, entity_uid from entity where valid_from > %(from)s and valid_from <= %(to)s limit %(at_most)s)
        union
        (select valid_to, entity_uid from entity where valid_to > %(from)s and valid_to <= %(to)s limit %(at_most)s)
        union
        (select valid_from, entity_uid from entity_detail where valid_from > %(from)s and valid_from <= %(to)s
         limit %(at_most)s * (select count(*) from detail_type))
        union
        (select valid_to, entity_uid from entity_detail where valid_to > %(from)s and valid_to <= %(to)s
         limit %(at_most)s * (select count(*) from detail_type))
    ) moment
    limit %(at_most)s
) counted
