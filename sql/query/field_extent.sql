-- The whole of one entity's past in one row: from when to when, and which fields ever had a value.
-- In: entity_uid, at (null: now). Out: began_at (null: it never existed), last_at (of a change), ended_before (the end of its
-- last existence that ended by `at`), begins_after (when it first begins after `at`), fields, runs (how many values),
-- is_open (it exists until further notice).
select min(valid_from), greatest(max(valid_from), max(valid_to)),
       max(valid_to) filter (where field = '' and valid_to <= coalesce(%(at)s::timestamptz, 'infinity')),
       min(valid_from) filter (where field = '' and valid_from > coalesce(%(at)s::timestamptz, 'infinity')),
       coalesce(array_agg(distinct field) filter (where field <> ''), '{}'), count(*) filter (where field <> ''),
       coalesce(bool_or(field = '' and valid_to is null), false)
from field_runs(%(entity_uid)s)
