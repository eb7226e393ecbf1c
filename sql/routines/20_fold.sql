-- The fold: from a set of changes to versions, the rules of time written once. Each function reads relations by names that the
-- caller's search path resolves: `stated_change`, the changes of the ledger, and `snapshot`, from which the ends by snapshots follow;
-- `recorded_change`, both together, which is what is folded; and, to compare with the stored versions, `refolded` (entity_uid, since),
-- `entity`, `entity_detail` and `ledger`. So one fold serves a merge, a request, `crm check` and reads as known at an instant.

-- Everything that is recorded and acts. Other schemas hide it with a part of it.
create or replace view stated_change as
select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details from ledger where acts;

-- What the batches name, as the ledger keeps it and whatever acts; of a snapshot it is what it lists.
create or replace view named_by_batch as
select batch_id, entity_uid, source_id, change_ts from ledger
union all
select batch_id, entity_uid, source_id, change_ts from repeat
union all
select batch_id, entity_uid, null, null from snapshot_reject;

-- Return the batches that were undone, and not reinstated, as known at an instant.
create or replace function undone_batches(known_at timestamptz) returns table (of_batch_id bigint)
language sql stable begin atomic
    select r.of_batch_id
    from retraction r
    join batch b on b.batch_id = r.batch_id
    where b.recorded_at <= known_at and not r.is_reinstated
      and not exists (
          select from retraction later
          join batch by on by.batch_id = later.batch_id
          where later.of_batch_id = r.of_batch_id and later.batch_id > r.batch_id and by.recorded_at <= known_at);
end;

-- Which entities the rows of sources name, and of which instant, whatever acts. A source names no entity that never had a key of it: so
-- the keys are looked up too, and where there is none, no change of the entity is read. An entity may be told several times.
create or replace view said_by_source as
select n.source_id, n.entity_uid, n.change_ts, n.batch_id
from (
    select source_id, entity_uid from source_key
    union all
    select source_id, key_uid from source_key where entity_uid <> key_uid
    union all
    select k.source_id, l.entity_uid from key_link l join source_key k on k.key_uid = l.key_uid
) keyed
join named_by_batch n on n.entity_uid = keyed.entity_uid and n.source_id = keyed.source_id;

-- That by what is not undone, be it news or a repeat.
create or replace view named_by_source as
select source_id, entity_uid, change_ts, batch_id
from said_by_source
where batch_id not in (select u.of_batch_id from undone_batches('infinity') u);

-- Return whether there ever was a snapshot: if not, nothing is looked for.
create or replace function has_snapshots() returns boolean language sql stable begin atomic
    select exists (select from snapshot);
end;

-- Return where snapshots end entities: since it was last begun (a turn of complete changes and deletions), the first snapshot that has
-- it in its scope and does not list it. It is in the scope by its type, as of just before, or because the source of the snapshot names it
-- before. What is named is looked up pair by pair: the conditions are written so that no plan reads all that was ever named.
create or replace function snapshot_ends() returns table (entity_uid uuid, change_ts timestamptz, batch_id bigint)
language sql stable as $$
    select distinct on (run.entity_uid, run.turn) run.entity_uid, s.at, s.batch_id
    from (
        select entity_uid, turn, change_ts, entity_type_id,
               lead(change_ts, 1, 'infinity') over ordered as until,
               first_value(op) over (partition by entity_uid, turn order by change_ts, batch_id, row_no) as governed_by
        from (
            select entity_uid, change_ts, batch_id, row_no, op, entity_type_id, count(*) filter (where op <> 'patch') over ordered as turn
            from stated_change
            where op <> 'patch' or entity_type_id is not null
            window ordered as (partition by entity_uid order by change_ts, batch_id, row_no)
        ) counted
        window ordered as (partition by entity_uid order by change_ts, batch_id, row_no)
    ) run
    join snapshot s on s.acts and s.at > run.change_ts and s.at <= run.until
    where run.governed_by = 'upsert'
      and (run.entity_type_id = any (s.entity_type_ids) or s.source_id is not null and (
          select true from named_by_source n
          where n.source_id = s.source_id and n.entity_uid = run.entity_uid and n.change_ts < s.at limit 1))
      and (select true from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = run.entity_uid limit 1) is null
      and (select has_snapshots())  -- otherwise the changes are not even read
    order by run.entity_uid, run.turn, s.at, s.batch_id
$$;

-- All changes, which `crm check` folds. An end by a snapshot comes before all else of its instant: it has the first place there.
create or replace view recorded_change as
select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details from stated_change
union all
select entity_uid, change_ts, 0, 0, 'delete', null, null, null from snapshot_ends();

-- Return the changes that have an effect, in the order of the walk (`step`). A patch has none unless the last complete change or
-- deletion before it was complete; it keeps the name and type that it does not set. A change's details end where its life does.
create or replace function effective_changes() returns table (
    entity_uid uuid, step bigint, change_ts timestamptz, op text, details jsonb,
    life_ends_at timestamptz, life_ends_step bigint, display_name text, entity_type_id smallint)
language sql stable as $$
    select entity_uid, step, change_ts, op, details, life_ends_at, life_ends_step,
           first_value(display_name) over (partition by entity_uid, name_no order by step),
           first_value(entity_type_id) over (partition by entity_uid, type_no order by step)
    from (
        select entity_uid, step, change_ts, op, details, display_name, entity_type_id,
               count(display_name) over (partition by entity_uid order by step) as name_no,
               count(entity_type_id) over (partition by entity_uid order by step) as type_no,
               max(change_ts) filter (where op = 'delete') over (partition by entity_uid, life) as life_ends_at,
               max(step) filter (where op = 'delete') over (partition by entity_uid, life) as life_ends_step
        from (
            select *, first_value(op) over (partition by entity_uid, turn order by step) as governed_by
            from (
                select *,
                       row_number() over ordered as step,
                       count(*) filter (where op <> 'patch') over ordered as turn,
                       count(*) filter (where op = 'delete')
                           over (ordered rows between unbounded preceding and 1 preceding) as life
                from recorded_change
                window ordered as (partition by entity_uid order by change_ts, batch_id, row_no)
            ) counted
        ) governed
        where op = 'delete' or governed_by = 'upsert'
    ) effective
$$;

-- Return the entity versions: the last state of each instant, equal neighbours merged, gaps where the entity was deleted.
create or replace function folded_entities() returns table (
    entity_uid uuid, display_name text, entity_type_id smallint, hashdiff bytea, valid_from timestamptz, valid_to timestamptz)
language sql stable as $$
    select entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to
    from (
        select entity_uid, display_name, entity_type_id, hashdiff, change_ts as valid_from,
               lead(change_ts) over (partition by entity_uid order by change_ts) as valid_to
        from (
            select *, lag(hashdiff) over (partition by entity_uid order by change_ts) as hashdiff_before
            from (
                select distinct on (entity_uid, change_ts)
                       entity_uid, change_ts, display_name, entity_type_id,
                       case when op <> 'delete' then entity_hashdiff(display_name, code) end as hashdiff
                from effective_changes()
                left join entity_type using (entity_type_id)
                order by entity_uid, change_ts, step desc
            ) last_of_instant
        ) compared
        where hashdiff is distinct from hashdiff_before
    ) runs
    where hashdiff is not null
$$;

-- Return the detail versions in the same way; the end of an entity ends its details.
create or replace function folded_details() returns table (
    entity_uid uuid, detail_type_id smallint, detail_value text, hashdiff bytea, valid_from timestamptz, valid_to timestamptz)
language sql stable as $$
    select entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to
    from (
        select entity_uid, detail_type_id, detail_value, hashdiff, change_ts as valid_from,
               lead(change_ts) over (partition by entity_uid, detail_type_id order by change_ts) as valid_to
        from (
            select *, lag(hashdiff) over (partition by entity_uid, detail_type_id order by change_ts) as hashdiff_before
            from (
                select distinct on (entity_uid, detail_type_id, change_ts)
                       entity_uid, detail_type_id, change_ts, detail_value,
                       case when detail_value is not null
                            then detail_hashdiff(code, detail_value, compares) end as hashdiff
                from (
                    select effective.entity_uid, detail_type_id, code, compares, moment.*
                    from effective_changes() effective
                    cross join jsonb_each_text(effective.details) as listed (code, detail_value)
                    join detail_type using (code)
                    cross join lateral (values (effective.change_ts, effective.step, listed.detail_value),
                                               (effective.life_ends_at, effective.life_ends_step, null))
                        as moment (change_ts, step, detail_value)
                    where moment.change_ts is not null
                ) moments
                order by entity_uid, detail_type_id, change_ts, step desc
            ) last_of_instant
        ) compared
        where hashdiff is distinct from hashdiff_before
    ) runs
    where hashdiff is not null
$$;

-- Return the changes to fold again for the entities of `refolded`: their state just before `since` as one complete change of the last
-- microsecond before, and the ledger from `since` on.
create or replace function reopened_changes() returns table (
    entity_uid uuid, change_ts timestamptz, batch_id bigint, row_no integer, op text,
    display_name text, entity_type_id smallint, details jsonb)
language sql stable as $$
    select r.entity_uid, r.since - interval '1 microsecond', 0::bigint, 0, 'upsert',
           e.display_name, e.entity_type_id,
           (select jsonb_object_agg(dt.code, d.detail_value)
            from entity_detail d join detail_type dt on dt.detail_type_id = d.detail_type_id
            where d.entity_uid = r.entity_uid
              and d.valid_from < r.since and (d.valid_to >= r.since or d.valid_to is null))
    from refolded r
    join entity e on e.entity_uid = r.entity_uid
        and e.valid_from < r.since and (e.valid_to >= r.since or e.valid_to is null)
    union all
    select l.entity_uid, l.change_ts, l.batch_id, l.row_no, l.op, l.display_name, l.entity_type_id, l.details
    from refolded r
    join ledger l on l.entity_uid = r.entity_uid and l.change_ts >= r.since and l.acts
$$;

-- Return how the stored entity versions of `refolded` differ from the fold of `recorded_change`. The action is `insert` for a new version;
-- `delete` for a stored one that is no longer true; `end` for a stored one whose valid_to was old_to.
create or replace function entity_differences() returns table (
    entity_uid uuid, action text, valid_from timestamptz, valid_to timestamptz, old_to timestamptz,
    display_name text, entity_type_id smallint, hashdiff bytea)
language sql stable as $$
    select entity_uid, action, coalesce(old_from, fold_from), new_to, old_to,
           display_name, entity_type_id, hashdiff
    from (
        select entity_uid, fold_from, unnest(array['delete', 'end', 'insert']) as action, max(display_name) as display_name, max(entity_type_id) as entity_type_id,
               max(new_to) as new_to, (array_agg(hashdiff) filter (where hashdiff is not null))[1] as hashdiff,
               max(old_from) as old_from, max(old_to) as old_to, max(old_name) as old_name,
               (array_agg(old_hashdiff) filter (where old_hashdiff is not null))[1] as old_hashdiff
        from (
            select entity_uid, valid_from as fold_from, display_name, entity_type_id, hashdiff, valid_to as new_to,
                   null::timestamptz as old_from, null::timestamptz as old_to, null::text as old_name, null::bytea as old_hashdiff
            from folded_entities()
            union all
            select e.entity_uid, greatest(e.valid_from, r.since - interval '1 microsecond'),
                   null, null, null, null, e.valid_from, e.valid_to, e.display_name, e.hashdiff
            from refolded r
            join entity e on e.entity_uid = r.entity_uid and (e.valid_to >= r.since or e.valid_to is null)
        ) both_sides
        group by entity_uid, fold_from
    ) paired
    where case
              when old_from is null then action = 'insert'
              when hashdiff is null then action = 'delete'
              when hashdiff <> old_hashdiff or display_name <> old_name then action <> 'end'
              else action = 'end' and new_to is distinct from old_to
          end
$$;

-- Return how the stored detail versions of `refolded` differ from the fold of `recorded_change`, in the same form.
create or replace function detail_differences() returns table (
    entity_uid uuid, detail_type_id smallint, action text, valid_from timestamptz, valid_to timestamptz, old_to timestamptz,
    detail_value text, hashdiff bytea)
language sql stable as $$
    select entity_uid, detail_type_id, action, coalesce(old_from, fold_from), new_to, old_to,
           detail_value, hashdiff
    from (
        select entity_uid, detail_type_id, fold_from, unnest(array['delete', 'end', 'insert']) as action, max(detail_value) as detail_value,
               max(new_to) as new_to, (array_agg(hashdiff) filter (where hashdiff is not null))[1] as hashdiff,
               max(old_from) as old_from, max(old_to) as old_to, max(old_value) as old_value,
               (array_agg(old_hashdiff) filter (where old_hashdiff is not null))[1] as old_hashdiff
        from (
            select entity_uid, detail_type_id, valid_from as fold_from, detail_value, hashdiff, valid_to as new_to,
                   null::timestamptz as old_from, null::timestamptz as old_to, null::text as old_value, null::bytea as old_hashdiff
            from folded_details()
            union all
            select d.entity_uid, d.detail_type_id, greatest(d.valid_from, r.since - interval '1 microsecond'),
                   null, null, null, d.valid_from, d.valid_to, d.detail_value, d.hashdiff
            from refolded r
            join entity_detail d on d.entity_uid = r.entity_uid and (d.valid_to >= r.since or d.valid_to is null)
        ) both_sides
        group by entity_uid, detail_type_id, fold_from
    ) paired
    where case
              when old_from is null then action = 'insert'
              when hashdiff is null then action = 'delete'
              when hashdiff <> old_hashdiff or detail_value <> old_value then action <> 'end'
              else action = 'end' and new_to is distinct from old_to
          end
$$;
