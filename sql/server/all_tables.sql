-- Return the tables of the database that hold data, those of extensions left out.
-- In: nothing. Out: schema and name, in order.
select nspname, relname
from pg_class c
join pg_namespace n on n.oid = relnamespace
where relkind = 'r' and nspname !~ '^pg_' and nspname <> 'information_schema'
  and not exists (select from pg_depend where objid = c.oid and classid = 'pg_class'::regclass and deptype = 'e')
order by nspname, relname
