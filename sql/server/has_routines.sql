-- Return whether the database has the table of applied routines.
-- In: nothing. Out: one row: exists.
select to_regclass('schema_routine') is not null
