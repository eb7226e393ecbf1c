-- Tells the planner how large the staged changes are, and of how many entities.
-- In, out: nothing.
analyze stage_change (entity_uid, change_ts)
