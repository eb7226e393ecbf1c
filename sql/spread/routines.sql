-- What a distributed database has in the place of routines of one server, or beside them; see docs/operations.md.

-- Create the work tables of a merge in a schema of their own, each part on the machine of its entities. This transaction uses one
-- connection for each machine: so types, batches and snapshots can be written beside the distributed tables.
create or replace function create_spread_stage() returns void language plpgsql as $$
declare
    stage text := 'stage_' || pg_current_xact_id();
    home text := current_schema();
begin
    perform set_config('citus.multi_shard_modify_mode', 'sequential', true), set_config('crm.shuts_gate', 'yes', true);
    execute format('create schema %I', stage);
    perform set_config('search_path', stage || ', ' || current_setting('search_path'), true);
    perform create_stage();
    create index on staged_change (entity_uid, row_no);
    perform create_distributed_table(stage || '.' || name, 'entity_uid', colocate_with => home || '.entity')
    from unnest(array['staged_change', 'stated_key', 'named_entity', 'recorded_change', 'entity_difference', 'detail_difference']) as name;
end
$$;

create or replace function create_spread_snapshot_stage() returns void language plpgsql as $$
declare
    stage text := current_schema();
begin
    perform create_snapshot_stage();
    perform create_distributed_table(stage || '.' || name, 'entity_uid', colocate_with => stage || '.staged_change')
    from unnest(array['staged_reject', 'unlisted_entity']) as name;
end
$$;

create or replace function drop_spread_stage() returns void language plpgsql as $$
declare
    stage text := 'stage_' || pg_current_xact_id();
begin
    perform set_config('search_path', regexp_replace(current_setting('search_path'), '^' || stage || ', ', ''), true);
    perform set_config('client_min_messages', 'warning', true);
    execute format('drop schema %I cascade', stage);
end
$$;

-- Record a batch. Its table is on all machines, and no trigger can be on it: what stamps it when it is committed is on another table.
create or replace function record_batch(
    its_actor text, its_source text, its_drop_sha256 text, its_request_id text,
    out batch_id bigint, out recorded_at timestamptz)
language plpgsql as $$
begin
    recorded_at := greatest(clock_timestamp(), now(), (select max(b.recorded_at) from batch b) + interval '1 microsecond');
    insert into batch as b (recorded_at, actor, source, drop_sha256, request_id)
    values (record_batch.recorded_at, its_actor, its_source, its_drop_sha256, its_request_id)
    returning b.batch_id into batch_id;
    insert into batch_to_stamp values (record_batch.batch_id, its_source, its_drop_sha256);
end
$$;

-- Give a batch the moment when it is committed (see stamp_batch). Each machine commits by itself: so who reads several entities passes
-- a gate first, which a merge shuts until all have committed.
create or replace function stamp_spread_batch() returns trigger language plpgsql
set citus.all_modifications_commutative = on as $$
declare
    moment timestamptz;
begin
    if current_setting('crm.shuts_gate', true) = 'yes' then
        perform pg_advisory_xact_lock(3141592, 65);
    end if;
    perform pg_advisory_xact_lock_shared(3141592, 64);
    moment := greatest(clock_timestamp(), (select max(b.recorded_at) from batch b) + interval '1 microsecond');
    update batch set recorded_at = moment where batch_id = new.batch_id;
    if new.source = 'drop' then
        update drop_file set merged_at = moment where sha256 = new.drop_sha256 and batch_id = new.batch_id;
    end if;
    delete from batch_to_stamp where batch_id = new.batch_id;
    return null;
end
$$;

-- Set crm.known_at for this transaction, also at the workers; see query/as_known.
create or replace function set_known_at(known_at text) returns void language plpgsql
set citus.propagate_set_commands = 'local' as $$
begin
    execute format('set local crm.known_at = %L', known_at);
end
$$;

-- Return detail types in order of their codes, behind a lock that all share who write values. Citus would lock the rows on one machine
-- after the other, so that two could wait for each other.
create or replace function hold_detail_types(codes text[]) returns setof detail_type language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(3141592, 66);
    return query select t.* from detail_type t where codes is null or lower(t.code) = any (codes) order by t.code;
end
$$;
