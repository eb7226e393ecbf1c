-- Return the files of routines that were applied.
-- In: nothing. Out: name, sha256.
select name, sha256 from schema_routine
