-- Return whether the database has the extension Citus.
-- In: nothing. Out: one row: has_citus.
select to_regclass('pg_catalog.pg_dist_partition') is not null
