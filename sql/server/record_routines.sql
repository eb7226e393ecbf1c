-- Record a file of routines as applied.
-- In: name, sha256. Out: nothing.
insert into schema_routine (name, sha256) values (%(name)s, %(sha256)s)
