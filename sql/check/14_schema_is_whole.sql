-- Every table, column, constraint, index, view and function of this release is present and valid.
-- In: nothing. Out: what is present and valid, one line each; sql/objects.txt lists what should be.
with homes as (
    select oid, nspname, case when nspname = current_schema() then '' else nspname || '.' end as prefix
    from pg_namespace where nspname in (current_schema(), 'known', 'single')
), relations as (
    select c.oid, relkind, prefix || relname as name from pg_class c join homes h on h.oid = relnamespace
), present as (
    select 'extension ' || extname as object from pg_extension
    union all
    select 'schema ' || nspname from homes where prefix <> ''
    union all
    select case when relkind in ('r', 'p') then 'table ' when relkind in ('v', 'm') then 'view '
                when relkind = 'S' then 'sequence ' else 'type ' end || name
    from relations where relkind in ('r', 'p', 'v', 'm', 'S', 'c')
    union all
    select format('column %s.%s %s%s%s', name, attname, format_type(atttypid, atttypmod),
                  case when attnotnull then ' not null' end, case when atthasdef or attidentity <> '' then ' by default' end)
    from relations join pg_attribute on attrelid = oid
    where relkind in ('r', 'p') and attnum > 0 and not attisdropped
    union all
    select format('constraint %s.%s', name, conname)
    from relations r join pg_constraint on conrelid = r.oid
    where contype in ('p', 'u', 'f', 'c', 'x') and convalidated
    union all
    select format('index %s.%s', t.name, i.name)
    from pg_index
    join relations i on i.oid = indexrelid
    join relations t on t.oid = indrelid
    where indisvalid and not exists (select from pg_constraint where conindid = indexrelid and contype in ('p', 'u', 'x'))
    union all
    select format('trigger %s.%s', name, tgname)
    from relations r join pg_trigger on tgrelid = r.oid
    where not tgisinternal and tgenabled <> 'D'
    union all
    select format('function %s%s(%s)', prefix, proname, oidvectortypes(proargtypes))
    from pg_proc p join homes h on h.oid = pronamespace
    where not exists (select from pg_depend where objid = p.oid and classid = 'pg_proc'::regclass and deptype = 'e')
)
select object from present order by object collate "C"
