-- Drop the work table.
-- In, out: nothing.
drop table judged_change
