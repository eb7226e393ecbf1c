-- Check a database before the schema is created in it, and return what is missing.
-- In: extensions. Out: the kind of what is missing, one of the words below, and its name.
select 'schema', 'public' where to_regnamespace('public') is null
union all
select 'create on schema', nspname::text from pg_namespace
where nspname = current_schema() and not has_schema_privilege(nspname, 'create')
union all
select 'create on database', datname::text from pg_database
where datname = current_database() and not has_database_privilege(datname, 'create')
union all
select 'usage on schema', nspname::text
from pg_extension
join pg_namespace n on n.oid = extnamespace
where extname = any (%(extensions)s) and not has_schema_privilege(nspname, 'usage')
union all
select case when available.name is null then 'module' else 'extension' end, wanted
from unnest(%(extensions)s::text[]) as wanted
left join (
    select name, bool_or(not superuser or (trusted and has_database_privilege(current_database(), 'create'))) as may
    from pg_available_extension_versions
    group by name
) available on name = wanted
where not exists (select from pg_extension where extname = wanted)
  and (may is not true and (name is null or not (select rolsuper from pg_roles where rolname = current_user)))
