-- Tell the planner how many versions change.
-- In, out: nothing.
analyze entity_difference (entity_uid, action, valid_from), detail_difference (entity_uid, detail_type_id, action, valid_from)
