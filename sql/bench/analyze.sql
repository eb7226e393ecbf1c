-- Update the planner's statistics, as autovacuum does after a while.
-- In, out: nothing.
analyze
