-- Recording changes: the rules that the merge of a drop and a single request share, each written once.

-- Lock one entity for a request until the transaction ends. Other requests can run at the same time, but no merge of its bucket.
create or replace function lock_entity(its_uid uuid) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(3141592, get_byte(uuid_send(its_uid), 0) >> 2);
    perform pg_advisory_xact_lock(hashtextextended(its_uid::text, 0));
end
$$;

-- Lock buckets of entities (the leading six bits of the uid) for a merge until the transaction ends. The buckets must be in
-- ascending order, so that two merges cannot wait for each other.
create or replace function lock_buckets(buckets integer[]) returns void language plpgsql as $$
declare
    bucket integer;
begin
    foreach bucket in array buckets loop
        perform pg_advisory_xact_lock(3141592, bucket);
    end loop;
end
$$;

-- Record a batch and return its place in the recording order of its entities, and this moment: the versions are written now. The
-- batch gets its own when it is committed (see stamp_batch), later than that of any batch before it whatever the clock does.
create or replace function record_batch(
    its_actor text, its_source text, its_drop_sha256 text, its_request_id text,
    out batch_id bigint, out recorded_at timestamptz)
language sql as $$
    insert into batch (recorded_at, actor, source, drop_sha256, request_id)
    values (greatest(clock_timestamp(), now(), (select max(b.recorded_at) from batch b) + interval '1 microsecond'),
            its_actor, its_source, its_drop_sha256, its_request_id)
    returning batch_id, recorded_at
$$;

-- Return how a change relates to what acts of its entity in the ledger: one row.
--   last_ts          the change_ts of the entity's last change; null if nothing is known of it
--   is_confirmation  that change is earlier and says the same, and no snapshot has come between, so nothing changes
--   is_repeat        a change at the same instant says the same, word for word
--   said_in, said_at the batch and row of that change
--   is_outdated      that change is superseded by another at the same instant
--   has_tie          there is a change at the same instant
--   has_later_patch  there is a later partial change, which inherits what it does not name
--   may_be_ended     a snapshot of its instant or later does not list the entity; of a repeat: by it the source of a later snapshot
--                    names the entity for the first time before that
create or replace function compare_with_ledger(
    its_uid uuid, its_ts timestamptz, its_op text, its_name text, its_type_id smallint, its_details jsonb, its_source_id smallint)
returns table (
    last_ts timestamptz, is_confirmation boolean, is_repeat boolean, said_in bigint, said_at integer, is_outdated boolean,
    has_tie boolean, has_later_patch boolean, may_be_ended boolean)
language sql stable rows 1 as $$
    select last.change_ts,
           last.is_same and last.change_ts < its_ts and unlisted.is_ahead is null,
           coalesce(last.is_same and last.change_ts = its_ts, false) or repeated.batch_id is not null,
           coalesce(repeated.batch_id, last.batch_id),
           coalesce(repeated.row_no, last.row_no),
           repeated.batch_id is not null and not coalesce(tied.is_same, false),
           coalesce(last.change_ts = its_ts, false) or tied.found is not null,
           patched.found is not null,
           coalesce(unlisted.is_ahead, named.is_new, false)
    from (values (1)) as one (row)
    left join lateral (
        select l.change_ts, l.batch_id, l.row_no, l.source_id,
               is_same_change(l.op, l.display_name, l.entity_type_id, l.details,
                              its_op, its_name, its_type_id, its_details) as is_same
        from ledger l
        where l.entity_uid = its_uid and l.acts
        order by l.change_ts desc, l.batch_id desc, l.row_no desc
        limit 1
    ) last on true
    left join lateral (
        select true as found,
               is_same_change(l.op, l.display_name, l.entity_type_id, l.details,
                              its_op, its_name, its_type_id, its_details) as is_same
        from ledger l
        where last.change_ts > its_ts and l.entity_uid = its_uid and l.change_ts = its_ts and l.acts
        order by l.batch_id desc, l.row_no desc
        limit 1
    ) tied on true
    left join lateral (
        select l.batch_id, l.row_no, l.source_id
        from ledger l
        where (tied.found or (last.change_ts = its_ts and not last.is_same))
          and l.entity_uid = its_uid and l.change_ts = its_ts and l.acts
          and is_same_change(l.op, l.display_name, l.entity_type_id, l.details,
                             its_op, its_name, its_type_id, its_details)
        limit 1
    ) repeated on true
    left join lateral (
        select true as found
        from ledger l
        where last.change_ts > its_ts and l.entity_uid = its_uid and l.change_ts > its_ts and l.op = 'patch' and l.acts
        limit 1
    ) patched on true
    left join lateral (  -- the snapshots since that change that do not list the entity; mostly none is as late, or it is a repeat
        select bool_or(s.at >= its_ts) as is_ahead
        from snapshot s
        where (select max(at) from snapshot where acts) > least(its_ts - interval '1 microsecond', last.change_ts)
          and repeated.batch_id is null and (last.is_same and last.change_ts = its_ts) is not true
          and s.acts and s.at > least(its_ts - interval '1 microsecond', last.change_ts)
          and not exists (select from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = its_uid)
    ) unlisted on true
    left join lateral (  -- mostly there is no such snapshot, or the source has named the entity before
        select true as is_new
        where (select max(at) from snapshot where source_id is not null) > its_ts
          and (repeated.batch_id is not null or (last.is_same and last.change_ts = its_ts))
          and case when repeated.batch_id is null then last.source_id else repeated.source_id end is distinct from its_source_id
          and (select max(s.at) from snapshot s where s.source_id = its_source_id) > its_ts
          and (select true from named_by_source n
               where n.source_id = its_source_id and n.entity_uid = its_uid and n.change_ts <= its_ts limit 1) is null
    ) named on true
$$;
