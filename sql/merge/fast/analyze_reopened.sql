-- Tell the planner how many changes are folded again.
-- In, out: nothing.
analyze recorded_change (entity_uid, change_ts)
