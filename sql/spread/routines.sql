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
    from unnest(array['staged_change', 'named_entity', 'recorded_change', 'entity_difference', 'detail_difference']) as name;
end
$$;

-- Create those of a snapshot, in the same way.
create or replace function create_spread_snapshot_stage() returns void language plpgsql as $$
declare
    stage text := current_schema();
begin
    perform create_snapshot_stage();
    perform create_distributed_table(stage || '.' || name, 'entity_uid', colocate_with => stage || '.staged_change')
    from unnest(array['staged_reject', 'unlisted_entity']) as name;
end
$$;

-- Drop the work tables, with their schema.
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

-- Lock what the staged changes name, and give those that name it by a linked key the entity of the link, as the same function of one
-- server: but a row of another entity can lie on another machine, so it is taken out and put in again.
create or replace function follow_keys(out has_keys boolean, out has_stated boolean) language plpgsql as $$
begin
    has_stated := exists (select 1 from stated_key limit 1);
    has_keys := has_stated or (select count(*) from staged_change where key_uid is not null) > 0;
    if not has_keys then
        return;
    end if;
    create temporary table moved_change on commit drop as
    select s.row_no, s.key_uid, s.entity_uid as former, k.entity_uid, s.change_ts, s.op, s.display_name, s.entity_type_id, s.hashdiff,
           s.detail_types, s.detail_values, s.detail_hashdiffs, s.source_id, s.source_key
    from staged_change s
    join source_key k on k.key_uid = s.key_uid and k.entity_uid <> k.key_uid
    where s.entity_uid = s.key_uid;
    create temporary table keyed_change on commit drop as
    select s.row_no, s.key_uid, s.entity_uid as former, s.change_ts, s.op, s.display_name, s.entity_type_id, s.hashdiff,
           s.detail_types, s.detail_values, s.detail_hashdiffs, s.source_id, s.source_key
    from staged_change s
    where s.key_uid = any (array(select k.key_uid from stated_key k)) and s.entity_uid = s.key_uid;
    insert into moved_change
    select s.row_no, s.key_uid, s.former, k.entity_uid, s.change_ts, s.op, s.display_name, s.entity_type_id, s.hashdiff,
           s.detail_types, s.detail_values, s.detail_hashdiffs, s.source_id, s.source_key
    from keyed_change s
    join stated_key k on k.key_uid = s.key_uid
    where not exists (select 1 from moved_change m where m.row_no = s.row_no);
    drop table keyed_change;
    perform lock_buckets(array(
        select distinct get_byte(uuid_send(uid), 0) >> 2 as bucket
        from (
            select distinct entity_uid as uid from staged_change
            union all
            select distinct key_uid from staged_change where key_uid is not null
            union all
            select entity_uid from moved_change
            union all
            select key_uid from stated_key
        ) named
        order by bucket));
    delete from staged_change s where s.row_no = any (array(select m.row_no from moved_change m));
    insert into staged_change (row_no, entity_uid, change_ts, op, display_name, entity_type_id, hashdiff,
                               detail_types, detail_values, detail_hashdiffs, source_id, source_key, key_uid)
    select row_no, entity_uid, change_ts, op, display_name, entity_type_id, hashdiff,
           detail_types, detail_values, detail_hashdiffs, source_id, source_key, key_uid
    from moved_change;
    drop table moved_change;
    if not has_stated then
        return;
    end if;
    if 0 < (
        with stated as materialized (select row_no, key_uid, entity_uid from stated_key),
        named as materialized (
            select row_no, entity_uid from staged_change where row_no = any (array(select row_no from stated_key))
        ),
        recorded as materialized (
            select distinct l.entity_uid
            from ledger l
            where l.entity_uid = any (array(select key_uid from stated_key)) and l.acts and l.op <> 'patch'
        )
        select count(*)
        from stated s
        join named c on c.row_no = s.row_no
        left join source_key k on k.key_uid = s.key_uid and k.entity_uid <> k.key_uid
        left join recorded on recorded.entity_uid = s.key_uid and k.key_uid is null
        where c.entity_uid <> s.entity_uid or coalesce(k.entity_uid, recorded.entity_uid) <> s.entity_uid
    ) then
        raise serialization_failure using message = 'a key was given to another entity meanwhile';
    end if;
end
$$;

-- Give the rejected rows of a snapshot that name their entity by a linked key the entity of the link, in the same way.
create or replace function follow_keys_of_rejects() returns void language plpgsql as $$
begin
    create temporary table moved_reject on commit drop as
    select r.entity_uid as former, k.entity_uid
    from staged_reject r
    join source_key k on k.key_uid = r.entity_uid and k.entity_uid <> k.key_uid;
    delete from staged_reject r where r.entity_uid = any (array(select m.former from moved_reject m));
    insert into staged_reject (entity_uid) select entity_uid from moved_reject;
    drop table moved_reject;
end
$$;

-- Create the work table of an undo (see sql/undo/30_create_affected.sql), distributed.
create or replace function create_spread_affected() returns void language plpgsql as $$
declare
    stage text := current_schema();
begin
    create unlogged table affected_change (
        entity_uid uuid, change_ts timestamptz, batch_id bigint, row_no integer, acts boolean,
        is_kept boolean, of_batch_id bigint, of_row_no integer);
    perform create_distributed_table(stage || '.affected_change', 'entity_uid', colocate_with => stage || '.staged_change');
end
$$;

-- Date staged changes as sql/change/date_undated.sql does.
create or replace function date_undated(lines integer[]) returns void language plpgsql as $$
begin
    create temporary table undated on commit drop as
    select s.row_no, s.entity_uid, s.change_ts from staged_change s where s.row_no = any (lines);
    create temporary table dated (row_no integer, entity_uid uuid, change_ts timestamptz) on commit drop;
    insert into dated
    with known as materialized (
        select l.entity_uid, max(l.change_ts) as at
        from ledger l where l.entity_uid = any (array(select entity_uid from undated)) group by l.entity_uid
    ),
    staged as materialized (
        select s.entity_uid, max(s.change_ts) as at
        from staged_change s
        where s.entity_uid = any (array(select entity_uid from undated)) and s.row_no <> all (lines)
        group by s.entity_uid
    ),
    ahead as materialized (
        select n.entity_uid, max(s.at) as at
        from (select distinct entity_uid from undated) n
        join snapshot s on s.acts and s.at >= now()
        group by n.entity_uid
    )
    select u.row_no, u.entity_uid, greatest(u.change_ts, known.at + interval '1 microsecond', staged.at + interval '1 microsecond',
                                            ahead.at + interval '1 microsecond')
    from undated u
    left join known using (entity_uid)
    left join staged using (entity_uid)
    left join ahead using (entity_uid);
    create temporary table redated on commit drop as select s.* from staged_change s where s.row_no = any (lines);
    delete from staged_change s where s.row_no = any (lines);
    insert into staged_change (row_no, entity_uid, change_ts, op, display_name, entity_type_id, hashdiff,
                               detail_types, detail_values, detail_hashdiffs, source_id, source_key, key_uid)
    select r.row_no, r.entity_uid, d.change_ts, r.op, r.display_name, r.entity_type_id, r.hashdiff,
           r.detail_types, r.detail_values, r.detail_hashdiffs, r.source_id, r.source_key, r.key_uid
    from redated r
    join dated d on d.row_no = r.row_no;
    drop table undated, dated, redated;
end
$$;

-- Find what sql/merge/22_find_unlisted.sql finds.
create or replace function find_unlisted(its_at timestamptz, its_types smallint[], its_source smallint) returns bigint
language plpgsql as $$
begin
    insert into unlisted_entity (entity_uid, at, display_name, is_ending)
    select x.entity_uid, its_at, x.display_name,
           x.valid_to is null or x.valid_to > its_at
           or exists (select 1 from entity e where e.entity_uid = x.entity_uid and e.valid_from = its_at)
    from entity x
    where x.valid_from < its_at and (x.valid_to >= its_at or x.valid_to is null)
      and (x.entity_type_id = any (its_types) or its_source is not null and (
          select true from named_by_source n
          where n.source_id = its_source and n.entity_uid = x.entity_uid and n.change_ts < its_at limit 1))
      and not exists (select 1 from staged_change s where s.entity_uid = x.entity_uid)
      and not exists (select 1 from staged_reject r where r.entity_uid = x.entity_uid);
    return (
        select count(*) from entity x
        where x.valid_from < its_at and (x.valid_to >= its_at or x.valid_to is null)
          and (x.entity_type_id = any (its_types) or its_source is not null and (
              select true from named_by_source n
              where n.source_id = its_source and n.entity_uid = x.entity_uid and n.change_ts < its_at limit 1)));
end
$$;

-- Lock batches without locking their rows, which lie on all machines, and let this transaction use one connection for each machine.
create or replace function lock_batches(batches bigint[]) returns void language plpgsql as $$
declare
    batch bigint;
begin
    perform set_config('citus.multi_shard_modify_mode', 'sequential', true);
    for batch in select distinct b from unnest(batches) as b order by b loop
        perform pg_advisory_xact_lock(hashtextextended(batch::text, 3));
    end loop;
end
$$;
