-- Return whether the database keeps which routines were applied.
-- In: nothing. Out: one row: exists.
select to_regclass('schema_routine') is not null
