-- Lets the planner know what the tables hold, as autovacuum does in time.
-- In, out: nothing.
analyze
