-- Return the tables, views, sequences and functions of the database that are not of an extension: an empty one has none.
-- In: nothing. Out: their names, in order.
select format('%s.%s', nspname, name)
from (
    select 'pg_class'::regclass as kind, oid, relnamespace as home, relname as name from pg_class where relkind in ('r', 'p', 'v', 'm', 'S', 'f')
    union all
    select 'pg_proc'::regclass, oid, pronamespace, proname from pg_proc
) object
join pg_namespace n on n.oid = home
where nspname !~ '^pg_' and nspname <> 'information_schema'
  and not exists (select from pg_depend where objid = object.oid and classid = kind and deptype = 'e')
order by nspname <> 'public', nspname, name
