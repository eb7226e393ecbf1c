-- Drop the table of the files of routines that were applied.
-- In, out: nothing.
drop table schema_routine
