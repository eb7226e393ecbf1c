-- Drop the work table.
-- In, out: nothing.
drop table noted_row
