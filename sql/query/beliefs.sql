-- The runs of one field of an entity as they were known at each of some instants.
-- In: entity_uid, field, instants, longest (characters of a value). Out: known_at, value, valid_from, valid_to.
select known_at, left(value, %(longest)s), valid_from, valid_to
from field_runs_as_known(%(entity_uid)s, %(field)s, %(instants)s::timestamptz[])
