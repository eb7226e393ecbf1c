-- Tells the planner how large the staged details are.
-- In, out: nothing.
analyze stage_detail
