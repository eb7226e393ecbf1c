-- One change by request: made under conditions, in one call, and answered with the entity as it then is.

-- What was answered to requests that carried an Idempotency-Key, so that the same request again is given the same answer.
create table idempotency_key (
    actor       text        not null,
    key         text        not null,
    fingerprint bytea       not null,
    outcome     text        not null,
    document    text,
    answered_at timestamptz not null,
    constraint idempotency_key_pkey primary key (actor, key)
);
create index idempotency_key_by_time on idempotency_key (answered_at);

-- Records one change unless a condition forbids it, and answers with what came of it:
--   created, changed, deleted   it is done; `document` is the entity as it is now, or as it was at the change if it has ended since
--   exists                      it was to be created, and is there
--   unknown                     there never was such an entity
--   absent                      it did not exist at its_ts; `ended_at` says when it last ended
--   stale                       its current document has none of the given MD5 sums (`only_if`; '*' is any)
--   key_reused                  the key was used for another request
-- A change without its_ts is of the moment when it has the entity to itself (and not before what is known of it, whatever
-- the clock says), so it stands when it is answered.
create function request_change(
    its_uid uuid, its_ts timestamptz, its_op text, its_name text, its_type_id smallint, its_details jsonb,
    its_actor text, its_request_id text, only_if text[], its_key text, its_fingerprint bytea,
    out outcome text, out document text, out ended_at timestamptz, out was_replayed boolean)
language plpgsql as $request_change$
declare
    answered idempotency_key;
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

    perform pg_advisory_xact_lock_shared(3141592, get_byte(uuid_send(its_uid), 0) >> 2);
    perform pg_advisory_xact_lock(hashtextextended(its_uid::text, 0));
    if only_if is not null then
        document := document_at(its_uid, 'infinity');
        if document is null or not ('*' = any (only_if) or md5(document) = any (only_if)) then
            outcome := 'stale';
            return;
        end if;
    end if;
    if its_op = 'upsert' then
        if exists (select from entity e where e.entity_uid = its_uid and e.next_from is null and e.is_current) then
            outcome := 'exists';
            return;
        end if;
        outcome := 'created';
    else
        if not exists (
                select from entity e
                where e.entity_uid = its_uid and e.valid_from <= coalesce(its_ts, 'infinity')
                  and (e.valid_to > coalesce(its_ts, 'infinity') or e.valid_to is null))
            and not exists (  -- a deletion again
                select from ledger l
                where l.entity_uid = its_uid and l.change_ts = its_ts and l.op = 'delete' and its_op = 'delete') then
            select max(e.valid_to) into ended_at from entity e where e.entity_uid = its_uid;
            outcome := case when exists (select from entity e where e.entity_uid = its_uid) then 'absent' else 'unknown' end;
            return;
        end if;
        outcome := case its_op when 'delete' then 'deleted' else 'changed' end;
    end if;

    its_ts := coalesce(its_ts, greatest(clock_timestamp(), (select max(l.change_ts) from ledger l where l.entity_uid = its_uid)));
    perform record_change(its_uid, its_ts, its_op, its_name, its_type_id, its_details, its_actor, 'request', its_request_id);
    document := case when its_op <> 'delete' then coalesce(document_at(its_uid, 'infinity'), document_at(its_uid, its_ts)) end;
    if its_key is not null then
        delete from idempotency_key k where k.answered_at < clock_timestamp() - interval '24 hours';
        insert into idempotency_key (actor, key, fingerprint, outcome, document, answered_at)
        values (its_actor, its_key, its_fingerprint, outcome, document, clock_timestamp());
    end if;
end
$request_change$;
