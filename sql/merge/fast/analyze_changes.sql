-- Tell the planner how many changes are staged, and of how many entities.
-- In, out: nothing.
analyze staged_change (entity_uid, change_ts)
