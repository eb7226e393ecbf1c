-- The entities of which a version begins or ends within a window.
-- In: from, to. Out: a condition.
entity_uid in (
    select entity_uid from entity
    where (valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s)
    union
    select entity_uid from entity_detail
    where (valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s))
