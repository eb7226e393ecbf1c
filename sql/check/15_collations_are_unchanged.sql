-- No collation that indexes were built by has changed with the operating system since.
-- In: nothing. Out: one line a breach.
select format('%s: its indexes were built by version %s of the collation, and the system now has %s; '
              'run `reindex database %I` and then `alter %s refresh collation version`',
              name, built_by, now_has, current_database(), name)
from (
    -- The column is none of PostgreSQL 14, and the database's own collation has the number 100.
    select 'database ' || quote_ident(datname) as name, to_jsonb(d) ->> 'datcollversion' as built_by,
           pg_collation_actual_version(100) as now_has
    from pg_database d where datname = current_database()
    union all
    select distinct 'collation ' || c.oid::regcollation, collversion, pg_collation_actual_version(c.oid)
    from pg_index
    cross join unnest(indcollation) as used (collation_id)
    join pg_collation c on c.oid = collation_id
    where (select relnamespace from pg_class where oid = indexrelid) = current_schema()::regnamespace
) collations
where built_by <> now_has
