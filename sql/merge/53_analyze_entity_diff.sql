-- Tells the planner how many entity versions change.
-- In, out: nothing.
analyze entity_diff (entity_uid, valid_from)
