-- Drop the work table.
-- In, out: nothing.
drop table affected_change
