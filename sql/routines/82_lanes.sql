-- The past of one entity field by field, as pictures of it need it. A field is display_name, entity_type or details.<code>; the
-- blank one is whether the entity exists. The functions read `entity`, `entity_detail` and `stated_change` by the caller's search path.

-- Return the runs of equal values of each field, in no order: a version of an entity holds its name and its type, and a field
-- whose value goes on from one version to the next has one run. The blank field has a run for each time that the entity exists. A run
-- lasts until the version before the next run ends.
create or replace function field_runs(uid uuid)
returns table (field text, value text, valid_from timestamptz, valid_to timestamptz) language sql stable as $$
    with version as materialized (
        select display_name, entity_type_id, valid_from, valid_to, lag(valid_to) over by_time as ended_before,
               (lag(valid_to) over by_time = valid_from) is not true as begins,
               lag(display_name) over by_time <> display_name as is_renamed,
               lag(entity_type_id) over by_time <> entity_type_id as is_retyped
        from entity
        where entity_uid = uid
        window by_time as (order by valid_from)
    )
    select run.field, run.value, run.valid_from,
           lead(run.ended_before, 1, (select valid_to from version order by valid_from desc limit 1))
               over (partition by run.field order by run.valid_from)
    from (
        select '' as field, '' as value, valid_from, ended_before from version where begins
        union all
        select 'display_name', display_name, valid_from, ended_before from version where begins or is_renamed
        union all
        select 'entity_type', et.code, v.valid_from, v.ended_before
        from version v
        join entity_type et on et.entity_type_id = v.entity_type_id
        where v.begins or v.is_retyped
    ) run
    union all
    select 'details.' || dt.code, d.detail_value, d.valid_from, d.valid_to
    from entity_detail d
    join detail_type dt on dt.detail_type_id = d.detail_type_id
    where d.entity_uid = uid
$$;

-- Return what a change says of a field; null if it says nothing of it, or that it ends.
create or replace function said_of_field(its_field text, display_name text, entity_type_id smallint, details jsonb)
returns text language sql stable parallel safe as $$
    select case its_field
        when 'display_name' then display_name
        when 'entity_type' then (select et.code from entity_type et where et.entity_type_id = said_of_field.entity_type_id)
        else details ->> substr(its_field, 9) end
$$;

-- Return the change that a field's value comes from: of those at its first instant, the one after which nothing else was said.
create or replace function origin_of_field(uid uuid, its_field text, its_value text, its_from timestamptz)
returns table (batch_id bigint, row_no integer) language sql stable as $$
    select l.batch_id, l.row_no
    from stated_change l
    where l.entity_uid = uid and l.change_ts = its_from
      and said_of_field(its_field, l.display_name, l.entity_type_id, l.details) = its_value
      and not exists (
          select from stated_change o
          where o.entity_uid = uid and o.change_ts = its_from and (o.batch_id, o.row_no) > (l.batch_id, l.row_no)
            and (o.op = 'delete' or o.details ? substr(its_field, 9)
                 or said_of_field(its_field, o.display_name, o.entity_type_id, null) is not null)
            and said_of_field(its_field, o.display_name, o.entity_type_id, o.details) is distinct from its_value)
    order by l.batch_id, l.row_no
    limit 1
$$;

-- Return the late facts: changes that were recorded more than a day after their instant, when a later instant was known already.
create or replace function late_facts(uid uuid)
returns table (change_ts timestamptz, batch_id bigint, row_no integer) language sql stable as $$
    select l.change_ts, l.batch_id, l.row_no
    from (
        select l.change_ts, l.batch_id, l.row_no,
               min(l.batch_id) over (order by l.change_ts desc groups between unbounded preceding and 1 preceding) as known_since
        from stated_change l
        where l.entity_uid = uid
    ) l
    where l.known_since < l.batch_id
      and (select b.recorded_at from batch b where b.batch_id = l.batch_id) > l.change_ts + interval '1 day'
$$;

-- Return the runs of one field as they were known at each of some instants. The search path and the settings are those of
-- query/as_known while it works; what is planned for the first instant serves all.
create or replace function field_runs_as_known(uid uuid, its_field text, instants timestamptz[])
returns table (known_at timestamptz, value text, valid_from timestamptz, valid_to timestamptz) language plpgsql as $$
declare
    path text := current_setting('search_path');
    loops text := current_setting('enable_nestloop');
    plans text := current_setting('plan_cache_mode');
    before text := current_setting('crm.known_at', true);
begin
    perform set_config('search_path', 'known, ' || regexp_replace(path, '^known, ', ''), true),
            set_config('enable_nestloop', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true);
    foreach known_at in array instants loop
        perform set_config('crm.known_at', known_at::text, true);
        return query
            select known_at, r.value, r.valid_from, r.valid_to
            from field_runs(uid) r
            where r.field = its_field
            order by r.valid_from;
    end loop;
    perform set_config('search_path', path, true), set_config('enable_nestloop', loops, true),
            set_config('plan_cache_mode', plans, true), set_config('crm.known_at', coalesce(before, ''), true);
end
$$;
