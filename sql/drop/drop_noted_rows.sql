-- Drop the work table of noted rows.
-- In, out: nothing.
drop table noted_row
