-- Tells the planner how many entities are touched.
-- In, out: nothing.
analyze touched
