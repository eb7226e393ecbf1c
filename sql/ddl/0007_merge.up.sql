-- What a merge needs beside its statements: a schema of its own with staging and work tables, and the way to load an
-- empty database with its indexes set aside.

-- Makes, in the first schema of the search path, the view of the changes to fold anew: those of the entities of a relation
-- `touched` (entity_uid, since, is_refolded) from `since` on.
create function make_reopened() returns void language plpgsql as $make_reopened$
begin
    -- What stood last before `since` as one complete change at -infinity, its end if it ended before `since`, then the ledger.
    create view reopened as
    select t.entity_uid, '-infinity'::timestamptz as change_ts, 0::bigint as batch_id, 0 as row_no, 'upsert' as op,
           e.display_name, e.entity_type_id,
           (select jsonb_object_agg(dt.code, d.detail_value)
            from entity_detail d join detail_type dt on dt.detail_type_id = d.detail_type_id
            where d.entity_uid = t.entity_uid
              and d.valid_from < t.since and (d.next_from >= t.since or d.next_from is null)) as details
    from touched t
    join entity e on e.entity_uid = t.entity_uid
        and e.valid_from < t.since and (e.next_from >= t.since or e.next_from is null)
    where t.is_refolded
    union all
    select t.entity_uid, d.valid_to, 0, 1, 'patch', null, null, jsonb_build_object(dt.code, null)
    from touched t
    join entity_detail d on d.entity_uid = t.entity_uid
        and d.valid_to < t.since and (d.next_from >= t.since or d.next_from is null)
    join detail_type dt on dt.detail_type_id = d.detail_type_id
    where t.is_refolded
    union all
    select t.entity_uid, e.valid_to, 0, 2, 'delete', null, null, null
    from touched t
    join entity e on e.entity_uid = t.entity_uid
        and e.valid_to < t.since and (e.next_from >= t.since or e.next_from is null)
    where t.is_refolded
    union all
    select l.entity_uid, l.change_ts, l.batch_id, l.row_no, l.op, l.display_name, l.entity_type_id, l.details
    from touched t
    join ledger l on l.entity_uid = t.entity_uid and l.change_ts >= t.since
    where t.is_refolded;
end
$make_reopened$;

-- Makes, in the first schema of the search path, the views that fold the changes of a relation `events`, which are those
-- that were reopened, and say how the stored versions differ from the fold.
create function make_difference() returns void language plpgsql as $make_difference$
begin
    perform make_fold();

    -- What must happen to the entity versions, as in entity_diff; -infinity stands for the version before `since`.
    create view entity_difference as
    select entity_uid,
           case action when 'end' then least(old_to, new_to) when 'link' then null
                       else coalesce(old_from, fold_from) end as valid_from,
           new_to as valid_to, new_next as next_from,
           display_name, entity_type_id, hashdiff, action, case when action in ('end', 'link') then old_from end as alters
    from (
        select *, case
                when old_from is null then 'open'
                when hashdiff is null then 'drop'
                when hashdiff <> old_hashdiff or display_name <> old_name then 'swap'
                when new_to is distinct from old_to then 'end'
                when new_next is distinct from old_next then 'link'
                else 'keep'
            end as action
        from (
            select entity_uid, fold_from, max(display_name) as display_name, max(entity_type_id) as entity_type_id,
                   max(new_to) as new_to, max(new_next) as new_next,
                   (array_agg(hashdiff) filter (where hashdiff is not null))[1] as hashdiff,
                   max(old_from) as old_from, max(old_to) as old_to, max(old_next) as old_next, max(old_name) as old_name,
                   (array_agg(old_hashdiff) filter (where old_hashdiff is not null))[1] as old_hashdiff
            from (
                select entity_uid, valid_from as fold_from, display_name, entity_type_id, hashdiff,
                       valid_to as new_to, next_from as new_next, null::timestamptz as old_from, null::timestamptz as old_to,
                       null::timestamptz as old_next, null::text as old_name, null::bytea as old_hashdiff
                from folded_entity
                union all
                select e.entity_uid, case when e.valid_from < t.since then '-infinity' else e.valid_from end,
                       null, null, null, null, null, e.valid_from, e.valid_to, e.next_from, e.display_name, e.hashdiff
                from touched t
                join entity e on e.entity_uid = t.entity_uid and (e.next_from >= t.since or e.next_from is null)
                where t.is_refolded
            ) both_sides
            group by entity_uid, fold_from
        ) paired
    ) decided
    where action <> 'keep';

    -- What must happen to the detail versions, likewise.
    create view detail_difference as
    select entity_uid, detail_type_id,
           case action when 'end' then least(old_to, new_to) when 'link' then null
                       else coalesce(old_from, fold_from) end as valid_from,
           new_to as valid_to, new_next as next_from,
           detail_value, hashdiff, action, case when action in ('end', 'link') then old_from end as alters
    from (
        select *, case
                when old_from is null then 'open'
                when hashdiff is null then 'drop'
                when hashdiff <> old_hashdiff or detail_value <> old_value then 'swap'
                when new_to is distinct from old_to then 'end'
                when new_next is distinct from old_next then 'link'
                else 'keep'
            end as action
        from (
            select entity_uid, detail_type_id, fold_from, max(detail_value) as detail_value,
                   max(new_to) as new_to, max(new_next) as new_next,
                   (array_agg(hashdiff) filter (where hashdiff is not null))[1] as hashdiff,
                   max(old_from) as old_from, max(old_to) as old_to, max(old_next) as old_next, max(old_value) as old_value,
                   (array_agg(old_hashdiff) filter (where old_hashdiff is not null))[1] as old_hashdiff
            from (
                select entity_uid, detail_type_id, valid_from as fold_from, detail_value, hashdiff,
                       valid_to as new_to, next_from as new_next, null::timestamptz as old_from, null::timestamptz as old_to,
                       null::timestamptz as old_next, null::text as old_value, null::bytea as old_hashdiff
                from folded_detail
                union all
                select d.entity_uid, d.detail_type_id,
                       case when d.valid_from < t.since then '-infinity' else d.valid_from end,
                       null, null, null, null, d.valid_from, d.valid_to, d.next_from, d.detail_value, d.hashdiff
                from touched t
                join entity_detail d on d.entity_uid = t.entity_uid and (d.next_from >= t.since or d.next_from is null)
                where t.is_refolded
            ) both_sides
            group by entity_uid, detail_type_id, fold_from
        ) paired
    ) decided
    where action <> 'keep';
end
$make_difference$;

-- Makes the schema `name` with the tables of one merge and puts it first in the search path of this transaction.
-- The tables are unlogged, not temporary, so that they can be distributed by entity_uid as the versions are.
create function make_stage(name text) returns void language plpgsql as $make_stage$
begin
    execute format('create schema %I', name);
    perform set_config('search_path', format('%I, ', name) || current_setting('search_path'), true);

    -- The accepted rows of the drop. The details that a row lists are three arrays of one length (a null value ends the
    -- detail); the object that the ledger keeps of them is made as they come in.
    create unlogged table stage_change (
        entity_uid uuid, change_ts timestamptz, row_no integer, op text,
        display_name text, entity_type_id smallint, hashdiff bytea,
        detail_types text[], detail_values text[], detail_hashdiffs bytea[],
        details jsonb generated always as (jsonb_object(detail_types, detail_values)) stored);

    -- The entities that the drop names: since when, in how many changes, and what has to be done for them. Known are those
    -- of which the ledger has a change at or after the first of these. Replayed is one change that is the ledger's last,
    -- word for word. Complete changes in order of time extend the versions, others have them folded anew; and a change
    -- that says again what the last one before it said needs neither.
    create unlogged table touched (
        entity_uid uuid, since timestamptz, changes bigint,
        is_known boolean, is_replayed boolean, is_extended boolean, is_refolded boolean);

    -- What must happen to the versions: open a new one (after the one that began at `alters`), drop one, swap one for another
    -- with the same beginning, or alter the one that began at `alters`: its end (differing from valid_from on), or a link to
    -- the next one alone.
    create unlogged table entity_diff (
        entity_uid uuid, valid_from timestamptz, valid_to timestamptz, next_from timestamptz, display_name text,
        entity_type_id smallint, hashdiff bytea, action text, alters timestamptz);
    create unlogged table detail_diff (
        entity_uid uuid, detail_type_id smallint, valid_from timestamptz, valid_to timestamptz, next_from timestamptz,
        detail_value text, hashdiff bytea, action text, alters timestamptz);

    -- The changes to fold anew.
    perform make_reopened();
    create unlogged table events (like ledger);
    perform make_difference();
end
$make_stage$;

-- Removes the schema that make_stage made, with its tables.
create function drop_stage(name text) returns void language plpgsql as $drop_stage$
begin
    execute format('drop schema %I cascade', name);
end
$drop_stage$;

-- Drops the foreign keys, keys and indexes of the versions and the ledger, and answers the statements that make them again,
-- in the order in which they must run: the other way round. For the first load: building them after it halves its time.
create function set_indexes_aside() returns setof text language plpgsql as $set_indexes_aside$
declare
    made record;
    remake text[] := '{}';
begin
    for made in
        select format('alter table %s drop constraint %I', conrelid::regclass, conname) as undo,
               format('alter table %s add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) as redo
        from pg_constraint
        where conrelid in ('ledger'::regclass, 'entity'::regclass, 'entity_detail'::regclass)
          and contype in ('p', 'u', 'f')
        order by contype, conrelid::regclass::text, conname
    loop
        execute made.undo;
        remake := made.redo || remake;
    end loop;
    for made in
        select format('drop index %s', indexrelid::regclass) as undo, pg_get_indexdef(indexrelid) as redo
        from pg_index
        where indrelid in ('ledger'::regclass, 'entity'::regclass, 'entity_detail'::regclass)
        order by indexrelid::regclass::text
    loop
        execute made.undo;
        remake := made.redo || remake;
    end loop;
    return query select unnest(remake);
end
$set_indexes_aside$;

-- One change at a time, for requests: the same fold over the one entity that two settings name, since an instant.
create schema single;
create view single.touched as
select current_setting('crm.entity_uid')::uuid as entity_uid, current_setting('crm.since')::timestamptz as since,
       true as is_refolded;

create function single.make() returns void language plpgsql as $make$
begin
    perform set_config('search_path', 'single, ' || current_setting('search_path'), true);
    perform make_reopened();
    create view single.events as select * from reopened;
    perform make_difference();
    perform set_config('search_path', regexp_replace(current_setting('search_path'), '^single, ', ''), true);
end
$make$;
select single.make();
drop function single.make();

-- Extends the versions of one entity by a change later than all that is known of it, and says how many were closed and opened.
create function extend_versions(
    its_uid uuid, its_ts timestamptz, its_op text, its_name text, its_type_id smallint, its_details jsonb,
    out closed integer, out entities_opened integer, out details_opened integer)
language plpgsql as $extend_versions$
declare
    standing entity;
    its_hashdiff bytea;
    listed record;
    ended integer;
begin
    closed := 0; entities_opened := 0; details_opened := 0;
    select e.* into standing from entity e where e.entity_uid = its_uid and e.next_from is null;
    if its_op = 'delete' then
        update entity set valid_to = its_ts, is_current = false where entity_uid = its_uid and next_from is null and is_current;
        get diagnostics closed = row_count;
        update entity_detail set valid_to = its_ts, is_current = false
        where entity_uid = its_uid and next_from is null and is_current;
    elsif its_op = 'upsert' or standing.is_current then  -- a patch of nothing has no effect
        its_name := coalesce(its_name, standing.display_name);
        its_type_id := coalesce(its_type_id, standing.entity_type_id);
        its_hashdiff := entity_hashdiff(its_name, (select et.code from entity_type et where et.entity_type_id = its_type_id));
        if standing.is_current is not true or its_hashdiff <> standing.hashdiff then
            update entity set valid_to = coalesce(valid_to, its_ts), next_from = its_ts, is_current = false
            where entity_uid = its_uid and next_from is null;
            insert into entity (entity_uid, display_name, entity_type_id, hashdiff, valid_from, is_current)
            values (its_uid, its_name, its_type_id, its_hashdiff, its_ts, true);
            entities_opened := 1;
        end if;
        for listed in
            select dt.detail_type_id, given.detail_value,
                   case when given.detail_value is not null
                        then detail_hashdiff(dt.code, given.detail_value, dt.compares) end as hashdiff
            from jsonb_each_text(its_details) as given (code, detail_value)
            join detail_type dt on dt.code = given.code
        loop
            if listed.hashdiff is not distinct from (
                    select d.hashdiff from entity_detail d
                    where d.entity_uid = its_uid and d.detail_type_id = listed.detail_type_id
                      and d.next_from is null and d.is_current) then
                continue;
            end if;
            update entity_detail
            set valid_to = coalesce(valid_to, its_ts), next_from = case when listed.hashdiff is not null then its_ts end,
                is_current = false
            where entity_uid = its_uid and detail_type_id = listed.detail_type_id and next_from is null;
            get diagnostics ended = row_count;
            closed := closed + ended;
            if listed.hashdiff is not null then
                insert into entity_detail (entity_uid, detail_type_id, detail_value, hashdiff, valid_from, is_current)
                values (its_uid, listed.detail_type_id, listed.detail_value, listed.hashdiff, its_ts, true);
                details_opened := details_opened + 1;
            end if;
        end loop;
    end if;
end
$extend_versions$;

-- Records one change and brings its entity's versions up to it, as a merge of one row would: locks (beside other requests
-- on the same buckets, never beside a merge of them), batch, ledger, versions (in order of time extended, else folded anew),
-- counts.
create function record_change(
    its_uid uuid, its_ts timestamptz, its_op text, its_name text, its_type_id smallint, its_details jsonb,
    its_actor text, its_source text, its_request_id text,
    out batch_id bigint, out recorded_at timestamptz, out rows_changed integer, out rows_late integer,
    out rows_superseded integer, out entity_versions_added integer, out detail_versions_added integer)
language plpgsql as $record_change$
declare
    entity_diffs single.entity_difference[];
    detail_diffs single.detail_difference[];
begin
    perform pg_advisory_xact_lock_shared(3141592, get_byte(uuid_send(its_uid), 0) >> 2);
    perform pg_advisory_xact_lock(hashtextextended(its_uid::text, 0));
    insert into batch (recorded_at, actor, source, request_id)
    values (greatest(clock_timestamp(), (select max(b.recorded_at) from batch b) + interval '1 microsecond'), its_actor, its_source, its_request_id)
    returning batch.batch_id, batch.recorded_at into batch_id, recorded_at;
    rows_changed := 0; rows_late := 0; rows_superseded := 0; entity_versions_added := 0; detail_versions_added := 0;

    if exists (select from ledger l
               where l.entity_uid = its_uid and l.change_ts = its_ts and l.op = its_op
                 and l.display_name is not distinct from its_name
                 and l.entity_type_id is not distinct from its_type_id
                 and l.details is not distinct from its_details) then
        return;  -- a replay
    end if;
    rows_late := exists (select from ledger l where l.entity_uid = its_uid and l.change_ts > its_ts)::integer;
    rows_superseded := exists (select from ledger l where l.entity_uid = its_uid and l.change_ts = its_ts)::integer;

    insert into ledger (entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details)
    values (its_uid, its_ts, record_change.batch_id, 1, its_op, its_name, its_type_id, its_details);
    if rows_late + rows_superseded = 0 then
        select least(x.closed + x.entities_opened + x.details_opened, 1), x.entities_opened, x.details_opened
        into rows_changed, entity_versions_added, detail_versions_added
        from extend_versions(its_uid, its_ts, its_op, its_name, its_type_id, its_details) x;
        return;
    end if;

    perform set_config('crm.entity_uid', its_uid::text, true), set_config('crm.since', its_ts::text, true);
    entity_diffs := array(select d from single.entity_difference d);
    detail_diffs := array(select d from single.detail_difference d);

    delete from entity e using unnest(entity_diffs) d
    where d.action in ('drop', 'swap') and e.entity_uid = its_uid and e.valid_from = d.valid_from;
    update entity e set valid_to = d.valid_to, next_from = d.next_from, is_current = d.valid_to is null
    from unnest(entity_diffs) d
    where d.alters is not null and e.entity_uid = its_uid and e.valid_from = d.alters;
    insert into entity (entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, next_from, is_current)
    select its_uid, d.display_name, d.entity_type_id, d.hashdiff, d.valid_from, d.valid_to, d.next_from, d.valid_to is null
    from unnest(entity_diffs) d where d.action in ('open', 'swap');

    delete from entity_detail e using unnest(detail_diffs) d
    where d.action in ('drop', 'swap')
      and e.entity_uid = its_uid and e.detail_type_id = d.detail_type_id and e.valid_from = d.valid_from;
    update entity_detail e set valid_to = d.valid_to, next_from = d.next_from, is_current = d.valid_to is null
    from unnest(detail_diffs) d
    where d.alters is not null
      and e.entity_uid = its_uid and e.detail_type_id = d.detail_type_id and e.valid_from = d.alters;
    insert into entity_detail (entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, next_from, is_current)
    select its_uid, d.detail_type_id, d.detail_value, d.hashdiff, d.valid_from, d.valid_to, d.next_from, d.valid_to is null
    from unnest(detail_diffs) d where d.action in ('open', 'swap');

    select count(*) filter (where d.action = 'open') into entity_versions_added from unnest(entity_diffs) d;
    select count(*) filter (where d.action = 'open') into detail_versions_added from unnest(detail_diffs) d;
    rows_changed := exists (
        select
        from (
            select d.action, d.valid_from, d.valid_to from unnest(entity_diffs) d
            union all
            select d.action, d.valid_from, d.valid_to from unnest(detail_diffs) d
        ) d
        where d.valid_from = its_ts or (d.action in ('open', 'swap') and d.valid_to = its_ts))::integer;
end
$record_change$;
