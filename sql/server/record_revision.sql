-- Record the last revision that was applied.
-- In: revision. Out: nothing.
insert into alembic_version (version_num) values (%(revision)s)
