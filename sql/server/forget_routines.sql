-- Forget which routines were applied, for they are about to change.
-- In, out: nothing.
delete from schema_routine
