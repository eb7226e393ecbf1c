-- Return the commands that drop the views and functions of the routines, whatever the columns and parameters of another release were.
-- In: names (of those in the schema of the tables; the schemas known and single have no others). Out: command.
select format('drop view if exists %%s cascade', c.oid::regclass)
from pg_class c
join pg_namespace n on n.oid = relnamespace
where relkind = 'v' and (nspname in ('known', 'single') or (nspname = current_schema() and relname = any (%(names)s)))
union all
select format('drop function if exists %%s cascade', p.oid::regprocedure)
from pg_proc p
join pg_namespace n on n.oid = pronamespace
where prokind = 'f' and (nspname in ('known', 'single') or (nspname = current_schema() and proname = any (%(names)s)))
