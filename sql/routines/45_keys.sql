-- Keys of sources: which entity a key names, and how writers that name entities by keys wait for each other.
-- In: the uid that is derived from source and key (see key_uid). A key names the entity of that uid unless it is linked to another;
-- who changes a link holds the lock of that uid, so who holds it knows what the key names.

-- Return the entity that a key names.
create or replace function entity_of_key(its_key_uid uuid) returns uuid language sql stable as $$
    select coalesce((select k.entity_uid from source_key k where k.key_uid = its_key_uid), its_key_uid)
$$;

-- Lock a key, the entity that it names, and one more if given, for a request until the transaction ends; return what the key names.
-- All are locked in one order, as by a merge, so that nobody waits in a circle. If the key was linked meanwhile, the locks are given
-- back, and it begins again.
create or replace function lock_key_of_source(its_key_uid uuid, another uuid default null) returns uuid language plpgsql as $$
declare
    its_uid uuid;
    uid uuid;
begin
    loop
        begin
            its_uid := entity_of_key(its_key_uid);
            for uid in select distinct u from unnest(array[its_key_uid, its_uid, another]) as u where u is not null order by u loop
                perform lock_entity(uid);
            end loop;
            if entity_of_key(its_key_uid) = its_uid then
                return its_uid;
            end if;
            raise exception using errcode = 'CR001', message = 'the key was linked meanwhile';
        exception when sqlstate 'CR001' then
            continue;
        end;
    end loop;
end
$$;

-- Link a key to an entity, or with its own uid end its link: what is recorded from then on under the key is of that entity. The outcome:
--   linked, unlinked   it is recorded, and as a change of both entities that says nothing else of them
--   unchanged          the key names that entity already; nothing is recorded
--   unknown            no such entity was ever known
create or replace function link_key(
    its_key_uid uuid, its_source_id smallint, its_source_key text, its_uid uuid, its_actor text, its_reason text, its_request_id text,
    out outcome text, out batch_id bigint)
language plpgsql as $$
declare
    former uuid := lock_key_of_source(its_key_uid, its_uid);
    of_both record;
    moment timestamptz;
begin
    if its_uid <> its_key_uid and not exists (select from ledger l where l.entity_uid = its_uid and l.acts and l.op <> 'patch') then
        outcome := 'unknown';
    elsif its_uid = former then
        outcome := 'unchanged';
    else
        outcome := case when its_uid = its_key_uid then 'unlinked' else 'linked' end;
        batch_id := (select b.batch_id from record_batch(its_actor, 'request', null, its_request_id) b);
        insert into key_link (key_uid, batch_id, row_no, entity_uid, reason)
        values (its_key_uid, link_key.batch_id, 1, nullif(its_uid, its_key_uid), its_reason);
        insert into source_key (key_uid, source_id, source_key, entity_uid, batch_id)
        values (its_key_uid, its_source_id, its_source_key, its_uid, link_key.batch_id)
        on conflict (key_uid) do update set entity_uid = excluded.entity_uid;
        for of_both in select v.uid, v.row_no from (values (its_uid, 1), (former, 2)) as v (uid, row_no) loop
            if exists (select from ledger l where l.entity_uid = of_both.uid and l.acts) then
                moment := greatest(clock_timestamp(), last_instant(of_both.uid) + interval '1 microsecond');
                insert into ledger (entity_uid, change_ts, batch_id, row_no, op)
                values (of_both.uid, moment, link_key.batch_id, of_both.row_no, 'patch');
            end if;
        end loop;
    end if;
end
$$;

-- Lock what the staged changes name, and give those that name it by a linked key the entity of the link. Fails if a key that a row
-- states for its entity names another by now. Out: whether a row has a key, and whether a row states one that named no entity before.
create or replace function follow_keys(out has_keys boolean, out has_stated boolean) language plpgsql as $$
begin
    has_stated := exists (select from stated_key);
    has_keys := has_stated or exists (select from staged_change where key_uid is not null);
    if not has_keys then
        return;
    end if;
    perform lock_buckets(array(
        select distinct get_byte(uuid_send(uid), 0) >> 2 as bucket
        from (
            select entity_uid from staged_change
            union all
            select key_uid from staged_change where key_uid <> entity_uid
            union all
            select k.entity_uid from staged_change s join source_key k on k.key_uid = s.key_uid and k.entity_uid <> k.key_uid
            union all
            select key_uid from stated_key
        ) named (uid)
        order by bucket));
    update staged_change s
    set entity_uid = k.entity_uid
    from source_key k
    where k.key_uid = s.key_uid and k.entity_uid <> k.key_uid and s.entity_uid = s.key_uid;
    if not has_stated then
        return;
    end if;
    update staged_change s
    set entity_uid = k.entity_uid
    from stated_key k
    where k.key_uid = s.key_uid and k.key_uid = s.entity_uid;
    if 0 < (  -- counted: to look for a first one, the planner would join row by row
        select count(*)
        from stated_key s
        join staged_change c on c.row_no = s.row_no
        left join source_key k on k.key_uid = s.key_uid and k.entity_uid <> k.key_uid
        left join lateral (
            select l.entity_uid from ledger l where l.entity_uid = s.key_uid and l.acts and l.op <> 'patch' limit 1
        ) recorded on k.key_uid is null
        where c.entity_uid <> s.entity_uid or coalesce(k.entity_uid, recorded.entity_uid) <> s.entity_uid
    ) then
        raise serialization_failure using message = 'a key was given to another entity meanwhile';
    end if;
end
$$;
