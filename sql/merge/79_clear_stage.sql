-- Clears the staging and work tables for the next part of a drop.
-- In, out: nothing.
truncate stage_change, touched, events, entity_diff, detail_diff
