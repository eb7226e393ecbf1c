-- Tells the planner how many changes are folded anew.
-- In, out: nothing.
analyze events (entity_uid, change_ts)
