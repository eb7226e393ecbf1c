-- What a merge needs beside its statements: a schema of its own with staging and work tables, and the way to load an
-- empty database with its indexes set aside.

-- Makes the schema `name` with the tables of one merge and puts it first in the search path of this transaction.
-- The tables are unlogged, not temporary, so that they can be distributed by entity_uid as the versions are.
create function make_stage(name text) returns void language plpgsql as $make_stage$
begin
    execute format('create schema %I', name);
    perform set_config('search_path', format('%I, ', name) || current_setting('search_path'), true);

    -- The accepted rows of the drop, and the details they list (null ends the detail).
    create unlogged table stage_change (
        entity_uid uuid, change_ts timestamptz, row_no integer, op text,
        display_name text, entity_type_id smallint, hashdiff bytea, details jsonb);
    create unlogged table stage_detail (
        entity_uid uuid, change_ts timestamptz, row_no integer, detail_type_id smallint, detail_value text, hashdiff bytea);

    -- The entities that the drop names: since when, in how many changes, whether all are complete, and whether the
    -- ledger knows a change at or after the first of them; those that are not plain and in order are folded anew.
    create unlogged table touched (
        entity_uid uuid, since timestamptz, changes bigint, is_plain boolean, is_known boolean, is_refolded boolean);

    -- What must happen to the versions: open a new one (closing the current one that began at `closes`),
    -- cut one short, drop one, or swap one for another with the same beginning.
    create unlogged table entity_diff (
        entity_uid uuid, valid_from timestamptz, valid_to timestamptz, display_name text, entity_type_id smallint,
        hashdiff bytea, action text, closes timestamptz);
    create unlogged table detail_diff (
        entity_uid uuid, detail_type_id smallint, valid_from timestamptz, valid_to timestamptz, detail_value text,
        hashdiff bytea, action text, closes timestamptz);

    -- The changes to fold anew: the state just before `since` as one complete change at -infinity, then the ledger.
    create view events as
    select t.entity_uid, '-infinity'::timestamptz as change_ts, 0::bigint as batch_id, 0 as row_no, 'upsert' as op,
           e.display_name, e.entity_type_id,
           (select jsonb_object_agg(dt.code, d.detail_value)
            from entity_detail d join detail_type dt on dt.detail_type_id = d.detail_type_id
            where d.entity_uid = t.entity_uid
              and d.valid_from < t.since and (d.valid_to >= t.since or d.valid_to is null)) as details
    from touched t
    join entity e on e.entity_uid = t.entity_uid
        and e.valid_from < t.since and (e.valid_to >= t.since or e.valid_to is null)
    where t.is_refolded
    union all
    select l.entity_uid, l.change_ts, l.batch_id, l.row_no, l.op, l.display_name, l.entity_type_id, l.details
    from touched t
    join ledger l on l.entity_uid = t.entity_uid and l.change_ts >= t.since
    where t.is_refolded;
    perform make_fold();
end
$make_stage$;

-- Removes the schema that make_stage made, with its tables.
create function drop_stage(name text) returns void language plpgsql as $drop_stage$
begin
    execute format('drop schema %I cascade', name);
end
$drop_stage$;

-- Drops the indexes and the keys, exclusions and foreign keys of the versions and the ledger, and answers the statements
-- that make them again, in the order in which they must run. For the first load: building them after it halves its time.
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
          and contype in ('p', 'u', 'x', 'f')
        order by contype <> 'f', contype = 'p' desc, conrelid::regclass::text, conname
    loop
        execute made.undo;
        remake := remake || made.redo;
    end loop;
    for made in
        select format('drop index %s', indexrelid::regclass) as undo, pg_get_indexdef(indexrelid) as redo
        from pg_index
        where indrelid in ('ledger'::regclass, 'entity'::regclass, 'entity_detail'::regclass)
        order by indexrelid::regclass::text
    loop
        execute made.undo;
        remake := remake || made.redo;
    end loop;
    return query select unnest(remake);
end
$set_indexes_aside$;
