-- Tell the planner how many entities go in by which route.
-- In, out: nothing.
analyze named_entity
