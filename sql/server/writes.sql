-- Return whether the database is read-only now, and for how long a write has waited for others.
-- In: nothing. Out: one row: is_read_only, waiting_seconds (null: none waits).
select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean as is_read_only,
       (select extract(epoch from clock_timestamp() - min(l.waitstart))::float8
        from pg_locks l
        join pg_database d on d.oid = l.database
        where not l.granted and d.datname = current_database()) as waiting_seconds
