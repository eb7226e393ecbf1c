-- Pin the settings of a session. The search path is the schema of the product's tables, public for a new database, and those
-- of its extensions. In: settings (a JSON object of names and values). Out: one row for each setting, and last of all whether there is Citus.
select set_config(name, value, false) from jsonb_each_text(%(settings)s::jsonb) as pinned (name, value)
union all
select set_config('client_connection_check_interval', '1s', false) where version() like '%%linux%%'
union all
select set_config('search_path', concat_ws(', ', quote_ident(coalesce(home, 'public')), extensions), false)
from (
    select (select nspname
            from pg_class
            join pg_namespace n on n.oid = relnamespace
            where relname in ('alembic_version', 'entity_detail', 'drop_file') and relkind in ('r', 'p')
            group by nspname
            having count(*) = 3
            order by nspname <> 'public', nspname
            limit 1) as home,
           (select string_agg(distinct quote_ident(nspname), ', ')
            from pg_extension
            join pg_namespace n on n.oid = extnamespace
            where extname in ('amcheck', 'btree_gist', 'pg_trgm') and nspname not in ('public', 'pg_catalog')) as extensions
) schemas
union all
select case when to_regclass('pg_catalog.pg_dist_partition') is not null then 'citus' else '' end
