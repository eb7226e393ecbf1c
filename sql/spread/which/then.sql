-- The versions that held at an instant.
-- In: as_of. Out: a condition.
e.valid_from <= %(as_of)s and (e.valid_to > %(as_of)s or e.valid_to is null)
