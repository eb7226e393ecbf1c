-- Return whether Dagster has made its tables in its database.
-- In: nothing. Out: one row: exists.
select to_regclass('jobs') is not null and to_regclass('runs') is not null and to_regclass('event_logs') is not null
