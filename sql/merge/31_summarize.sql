-- Says what has to be done for how many entities, so that steps with nothing to do are left out.
-- In: touched. Out: entities, known (and not replayed), replayed, repeated, extended, extended_at_length, refolded.
select count(*), count(*) filter (where is_known and not is_replayed), count(*) filter (where is_replayed),
       count(*) filter (where changes > 1), count(*) filter (where is_extended and changes = 1),
       count(*) filter (where is_extended and changes > 1), count(*) filter (where is_refolded)
from touched
