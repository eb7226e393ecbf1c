-- Tells the planner how many detail versions change.
-- In, out: nothing.
analyze detail_diff (entity_uid, detail_type_id, valid_from)
