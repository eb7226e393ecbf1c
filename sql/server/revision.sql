-- Return the number of the last revision that was applied.
-- In: nothing. Out: version_num; no row if all were undone.
select version_num from alembic_version
