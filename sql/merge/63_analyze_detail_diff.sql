-- Tells the planner how many detail versions change.
-- In, out: nothing.
analyze detail_diff
