-- Forget which revision was the last that was applied.
-- In: nothing. Out: nothing.
delete from alembic_version
