-- Forget which routines were applied, because they are about to change.
-- In, out: nothing.
delete from schema_routine
