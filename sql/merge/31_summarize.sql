-- Says what kinds of entity the drop touches, so that steps with nothing to do are left out.
-- In: touched. Out: plain_in_order, known, refolded, repeated (counts of entities).
select count(*) filter (where not is_refolded), count(*) filter (where is_known),
       count(*) filter (where is_refolded), count(*) filter (where changes > 1)
from touched
