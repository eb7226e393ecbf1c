-- One change by a request: it is recorded, spliced or folded into the versions, and answered with the entity as it is then.

-- The fold of one entity since an instant, both given by settings; see sql/routines/20_fold.sql.
create or replace view single.refolded as
select current_setting('crm.entity_uid')::uuid as entity_uid, current_setting('crm.since')::timestamptz as since;

create or replace view single.stated_change as
select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details from reopened_changes();

create or replace view single.recorded_change as
select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details from single.stated_change
union all
select entity_uid, change_ts, 0, 0, 'delete', null, null, null from snapshot_ends();

create or replace view single.entity_difference as
select entity_uid, action, valid_from, valid_to, old_to, display_name, entity_type_id, hashdiff from entity_differences();

create or replace view single.detail_difference as
select entity_uid, detail_type_id, action, valid_from, valid_to, old_to, detail_value, hashdiff from detail_differences();

-- Return the latest instant of which something is known of an entity, also by a snapshot from now on that does not list it.
create or replace function last_instant(its_uid uuid) returns timestamptz language sql stable as $$
    select greatest(
        (select max(l.change_ts) from ledger l where l.entity_uid = its_uid),
        (select max(s.at) from snapshot s
         where s.acts and s.at >= now()
           and not exists (select from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = its_uid)))
$$;

-- Record one change of a locked entity, update its versions, and return its batch.
-- In: the change; its details as three arrays of one length (codes, values, hashdiffs), null if it lists none; the source that says it.
create or replace function record_change(
    its_uid uuid, its_ts timestamptz, its_op text, its_name text, its_type_id smallint, its_hashdiff bytea,
    its_codes text[], its_values text[], its_hashdiffs bytea[], its_actor text, its_request_id text,
    its_source_id smallint)
returns bigint language plpgsql as $$
declare
    known record;
    batch record;
    its_details jsonb := jsonb_object(its_codes, its_values);
    of_entity single.entity_difference[];
    of_details single.detail_difference[];
begin
    select * into known from compare_with_ledger(
        its_uid, its_ts, its_op, its_name, its_type_id, its_details, its_source_id);
    select * into batch from record_batch(its_actor, 'request', null, its_request_id);
    insert into ledger (entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details, source_id)
    values (its_uid, its_ts, batch.batch_id, 1, its_op, its_name, its_type_id, its_details, its_source_id);

    if known.has_tie or known.has_later_patch or known.may_be_ended then
        perform set_config('crm.entity_uid', its_uid::text, true), set_config('crm.since', its_ts::text, true),
                set_config('search_path', 'single, ' || current_setting('search_path'), true);
        of_entity := array(select d from single.entity_difference d);
        of_details := array(select d from single.detail_difference d);
        perform set_config('search_path', regexp_replace(current_setting('search_path'), '^single, ', ''), true);
    else
        of_entity := array(
            select row(its_uid, s.action, s.valid_from, s.valid_to, s.old_to, s.display_name, s.entity_type_id, s.hashdiff
                   )::single.entity_difference
            from entity_splice(its_uid, its_ts, its_op, its_name, its_type_id, its_hashdiff, known.last_ts > its_ts) s);
        of_details := array(
            select row(its_uid, s.detail_type_id, s.action, s.valid_from, s.valid_to, s.old_to, s.detail_value, s.hashdiff
                   )::single.detail_difference
            from detail_splice(its_uid, its_ts, its_op, its_codes, its_values, its_hashdiffs, known.last_ts > its_ts) s);
    end if;

    if cardinality(of_entity) > 0 then
        delete from entity e using unnest(of_entity) d
        where d.action = 'delete' and e.entity_uid = its_uid and e.valid_from = d.valid_from;
        update entity e set valid_to = d.valid_to, is_current = d.valid_to is null, updated_at = batch.recorded_at
        from unnest(of_entity) d
        where d.action = 'end' and e.entity_uid = its_uid and e.valid_from = d.valid_from;
        insert into entity (entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, is_current,
                            created_at, updated_at)
        select its_uid, d.display_name, d.entity_type_id, d.hashdiff, d.valid_from, d.valid_to, d.valid_to is null,
               batch.recorded_at, batch.recorded_at
        from unnest(of_entity) d where d.action = 'insert';
    end if;
    if cardinality(of_details) > 0 then
        delete from entity_detail e using unnest(of_details) d
        where d.action = 'delete'
          and e.entity_uid = its_uid and e.detail_type_id = d.detail_type_id and e.valid_from = d.valid_from;
        update entity_detail e set valid_to = d.valid_to, is_current = d.valid_to is null, updated_at = batch.recorded_at
        from unnest(of_details) d
        where d.action = 'end'
          and e.entity_uid = its_uid and e.detail_type_id = d.detail_type_id and e.valid_from = d.valid_from;
        insert into entity_detail (entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, is_current,
                                   created_at, updated_at)
        select its_uid, d.detail_type_id, d.detail_value, d.hashdiff, d.valid_from, d.valid_to, d.valid_to is null,
               batch.recorded_at, batch.recorded_at
        from unnest(of_details) d where d.action = 'insert';
    end if;
    return batch.batch_id;
end
$$;

-- Record one change unless a condition forbids it, and return the outcome:
--   created, changed, deleted   it is done; `document` is the entity as it is now, or as it was at the change if it has ended since
--   exists                      it was to be created, but it exists now
--   unknown                     no such entity was ever known
--   absent                      it did not exist at its_ts; `ended_at` is when it last ended before that, if it did
--   stale                       its current document has none of the given MD5 sums (`only_if`; '*' means any)
--   key_reused                  the key was used for another request
-- A change without its_ts is later than everything known of its entity, whatever the clock says. A patch without any field
-- records nothing. One by the key of a source creates its entity or changes it; the caller has locked what the key names
-- (see lock_key_of_source).
create or replace function request_change(
    its_uid uuid, its_ts timestamptz, its_op text, its_name text, its_type_id smallint, its_hashdiff bytea,
    its_codes text[], its_values text[], its_hashdiffs bytea[],
    its_actor text, its_request_id text, only_if text[], its_key text, its_fingerprint bytea,
    its_source_id smallint, its_source_key text, its_key_uid uuid,
    out outcome text, out document text, out ended_at timestamptz, out was_replayed boolean)
language plpgsql as $$
declare
    answered idempotency_key;
    its_batch_id bigint;
begin
    was_replayed := false;
    if its_key is not null then
        perform pg_advisory_xact_lock(hashtextextended(its_actor || ' ' || its_key, 1));
        select * into answered from idempotency_key k where k.actor = its_actor and k.key = its_key;
        if found then
            was_replayed := true;
            outcome := case when answered.fingerprint = its_fingerprint then answered.outcome else 'key_reused' end;
            document := answered.document;
            return;
        end if;
    end if;

    perform lock_entity(its_uid);
    if its_op <> 'upsert' and not exists (select from ledger l where l.entity_uid = its_uid and l.acts) then
        outcome := 'unknown';
        return;
    end if;
    if only_if is not null then
        document := document_at(its_uid, 'infinity');
        if document is null or not ('*' = any (only_if) or md5(document) = any (only_if)) then
            outcome := 'stale';
            return;
        end if;
    end if;
    if its_op = 'upsert' then
        outcome := 'created';
        if exists (select from entity e where e.entity_uid = its_uid and e.is_current) then
            if its_key_uid is null then
                outcome := 'exists';
                return;
            end if;
            outcome := 'changed';
        end if;
    else
        if not exists (
                select from entity e
                where e.entity_uid = its_uid and e.valid_from <= coalesce(its_ts, 'infinity')
                  and (e.valid_to > coalesce(its_ts, 'infinity') or e.valid_to is null))
            and not exists (  -- a repeated deletion
                select from ledger l
                where l.entity_uid = its_uid and l.change_ts = its_ts and l.op = 'delete' and l.acts and its_op = 'delete') then
            select max(e.valid_to) into ended_at from entity e where e.entity_uid = its_uid and e.valid_to <= coalesce(its_ts, 'infinity');
            outcome := case when exists (select from entity e where e.entity_uid = its_uid) then 'absent' else 'unknown' end;
            return;
        end if;
        outcome := case its_op when 'delete' then 'deleted' else 'changed' end;
    end if;

    its_ts := coalesce(its_ts, greatest(clock_timestamp(), last_instant(its_uid) + interval '1 microsecond'));
    if its_op <> 'patch' or its_name is not null or its_type_id is not null or its_codes is not null then
        its_batch_id := record_change(its_uid, its_ts, its_op, its_name, its_type_id, its_hashdiff,
                                      its_codes, its_values, its_hashdiffs, its_actor, its_request_id, its_source_id);
        if its_key_uid is not null then
            insert into source_key (key_uid, source_id, source_key, entity_uid, batch_id)
            values (its_key_uid, its_source_id, its_source_key, its_uid, its_batch_id)
            on conflict do nothing;
        end if;
    end if;
    document := case when its_op <> 'delete' then coalesce(document_at(its_uid, 'infinity'), document_at(its_uid, its_ts)) end;
    if its_key is not null then
        delete from idempotency_key k where k.answered_at < now() - interval '24 hours';
        insert into idempotency_key (actor, key, fingerprint, outcome, document, answered_at)
        values (its_actor, its_key, its_fingerprint, outcome, document, clock_timestamp());
    end if;
end
$$;
