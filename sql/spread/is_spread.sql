-- Return whether Citus has distributed the tables; to ask only where it is there.
-- In: nothing. Out: one row: is_spread.
select exists (select from pg_dist_partition where logicalrelid = to_regclass('entity'))
