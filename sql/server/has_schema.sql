-- Return whether the database was ever migrated.
-- In: nothing. Out: one row: exists.
select to_regclass('alembic_version') is not null
