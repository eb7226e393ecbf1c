-- What a merge needs besides its statements in sql/merge: its work tables, and functions that load an empty database with its indexes
-- set aside.

-- Create the work tables of one merge. They are temporary, so they need only that privilege, and no crash leaves them behind.
create or replace function create_stage() returns void language plpgsql as $$
begin
    -- The accepted rows of the drop. The details that a row lists are three arrays of one length (a null value ends the
    -- detail); the object that the ledger keeps of them is made as they come in.
    create temporary table staged_change (
        entity_uid uuid, change_ts timestamptz, row_no integer, op text,
        display_name text collate "C", entity_type_id smallint, hashdiff bytea,
        detail_types text[], detail_values text[], detail_hashdiffs bytea[],
        source_id smallint, source_key text collate "C", key_uid uuid,  -- of a row that names its entity by the key of a source
        details jsonb generated always as (jsonb_object(detail_types, detail_values)) stored
    ) on commit drop;

    -- The keys of which a row says that they name its entity, and that named none before: see sql/routines/45_keys.sql.
    create temporary table stated_key (
        row_no integer, key_uid uuid, source_id smallint, source_key text collate "C", entity_uid uuid) on commit drop;

    -- The entities that the drop names: since when, in how many changes, how many of them repeat what the ledger says about the
    -- same instant (and, for one change alone, the batch and row that said it), how many of these are of what is superseded since, how many are late, whether one shares its instant
    -- with another; of which batch it is an effect if the entity differs before anything new that it says of it (this one, or one that is
    -- undone or reinstated); and the route that the entity takes:
    --   repeat   all are repeats: they are kept as such, and change nothing
    --   confirm  one change that says what the last one said: it is recorded, and changes nothing
    --   new      one complete change of an unknown entity: its versions are the change itself
    --   splice   one change that the splice can place
    --   fold     anything else: the entity is folded again from the ledger, since the first of its changes
    create temporary table named_entity (
        entity_uid uuid, since timestamptz, changes integer, repeats integer, outdated integer, said_in bigint, said_at integer,
        late integer, has_tie boolean, effect_of bigint, route text
    ) on commit drop;
    create temporary view refolded as select entity_uid, since from named_entity where route = 'fold';
    create temporary table recorded_change (
        entity_uid uuid, change_ts timestamptz, batch_id bigint, row_no integer, op text,
        display_name text collate "C", entity_type_id smallint, details jsonb) on commit drop;
    create temporary view stated_change as table recorded_change;  -- as long as the ends by snapshots are not added

    -- How the stored versions must change: see the splice and the fold.
    create temporary table entity_difference (
        entity_uid uuid, action text, valid_from timestamptz, valid_to timestamptz, old_to timestamptz,
        display_name text collate "C", entity_type_id smallint, hashdiff bytea) on commit drop;
    create temporary table detail_difference (
        entity_uid uuid, detail_type_id smallint, action text, valid_from timestamptz, valid_to timestamptz, old_to timestamptz,
        detail_value text collate "C", hashdiff bytea) on commit drop;
end
$$;

-- Create the work tables of a snapshot beside them: the entities of its rejected rows, and those of its scope that it does not list;
-- `is_ending`: they live on at its instant, as long as it does not act.
create or replace function create_snapshot_stage() returns void language plpgsql as $$
begin
    create temporary table staged_reject (entity_uid uuid) on commit drop;
    create temporary table unlisted_entity (
        entity_uid uuid, of_batch_id bigint, at timestamptz, display_name text collate "C", is_ending boolean) on commit drop;
end
$$;

-- Drop the work tables of a merge.
create or replace function drop_stage() returns void language plpgsql as $$
begin
    drop table staged_change, stated_key, named_entity, recorded_change, entity_difference, detail_difference cascade;
end
$$;

-- Drop those of a snapshot.
create or replace function drop_snapshot_stage() returns void language plpgsql as $$
begin
    drop table staged_reject, unlisted_entity;
end
$$;

-- Return whether the current role owns the versions and the ledger, so that it may drop and build their indexes.
create or replace function owns_the_tables() returns boolean language sql stable as $$
    select bool_and(pg_has_role(relowner, 'USAGE'))
    from pg_class
    where oid in ('ledger'::regclass, 'entity'::regclass, 'entity_detail'::regclass)
$$;

-- Drop the constraints and indexes of the versions and the ledger except the primary keys, by which a merge finds rows, and return
-- the statements that rebuild them, in the order in which they must run. For a bulk load: building them afterwards takes half
-- the time.
create or replace function set_indexes_aside() returns setof text language plpgsql as $$
declare
    made record;
    remake text[] := '{}';
begin
    for made in
        select format('alter table %s drop constraint %I', conrelid::regclass, conname) as undo,
               format('alter table %s add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) as redo
        from pg_constraint
        where conrelid in ('ledger'::regclass, 'entity'::regclass, 'entity_detail'::regclass)
          and contype in ('u', 'f', 'x')
        order by contype, conrelid::regclass::text, conname
    loop
        execute made.undo;
        remake := made.redo || remake;
    end loop;
    for made in
        select format('drop index %s', indexrelid::regclass) as undo, pg_get_indexdef(indexrelid) as redo
        from pg_index
        where indrelid in ('ledger'::regclass, 'entity'::regclass, 'entity_detail'::regclass) and not indisprimary
        order by indexrelid::regclass::text
    loop
        execute made.undo;
        remake := made.redo || remake;
    end loop;
    return query select unnest(remake);
end
$$;
