-- Tells the planner how large the staged changes are.
-- In, out: nothing.
analyze stage_change
