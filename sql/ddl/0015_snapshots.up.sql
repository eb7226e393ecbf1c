-- Snapshots: a drop that says in addition, of its scope at an instant: nothing else is. That is a fact of the ledger like any other:
-- where it ends an entity follows from it (see snapshot_ends), also for what is learnt later.
create table snapshot (
    batch_id        bigint      not null,  -- of the drop
    at              timestamptz not null,
    entity_type_ids smallint[],            -- its scope: entities that are of one of these types just before
    acts            boolean     not null default true,  -- as in the ledger: it is not undone
    constraint snapshot_pkey primary key (batch_id),
    constraint snapshot_finite check (isfinite(at)),
    constraint snapshot_has_a_scope check (cardinality(entity_type_ids) > 0)
);
create index snapshot_by_instant on snapshot (at) where acts;

-- What a snapshot lists is what its rows name; and this: the entities of its rejected rows, which are present all the same.
create table snapshot_reject (
    entity_uid uuid   not null,
    batch_id   bigint not null,
    constraint snapshot_reject_pkey primary key (entity_uid, batch_id)
);

-- The entities that a snapshot ended when it was recorded, or whose end it was no more, or again, when it was undone or reinstated:
-- no row of the batch names them, and the feed and the audit tell of them.
create table snapshot_effect (
    entity_uid  uuid   not null,
    batch_id    bigint not null,  -- that did it
    of_batch_id bigint not null,  -- the snapshot's
    constraint snapshot_effect_pkey primary key (entity_uid, batch_id, of_batch_id)
);
create index snapshot_effect_by_batch on snapshot_effect (batch_id, of_batch_id, entity_uid);

-- A drop is known by its bytes, and by its mode, scope and instant where it has them: sha256 is of all that together.
alter table drop_file
    add column content_sha256 text collate "C",  -- of the bytes alone, if that is another
    add column mode           text not null default 'delta',
    add column scope          text,         -- of a snapshot, as it is given: PERSON,INSTITUTION
    add column snapshot_at    timestamptz,  -- of a snapshot
    add column entities_ended bigint not null default 0;
alter table drop_file add constraint drop_file_mode_known
    check (mode in ('delta', 'snapshot') and (mode = 'snapshot') = (scope is not null));
create index drop_file_by_content on drop_file (content_sha256) where content_sha256 is not null;

alter table drop_file drop constraint drop_file_status_known;
alter table drop_file add constraint drop_file_status_known
    check (status in ('seen', 'merged', 'refused', 'undone', 'held', 'declined'));

-- A snapshot that would end too much waits for somebody to decide. Its bytes are kept until it is approved.
create table held_drop (
    drop_sha256 text        collate "C" not null,
    held_at     timestamptz not null,
    sent_by     text        collate "C" not null,
    is_strict   boolean     not null,
    would_end   bigint      not null,  -- entities
    in_scope    bigint      not null,  -- of so many
    first_uids  uuid[]      not null,  -- that would end
    first_names text[]      collate "C" not null,
    decision    text,
    decided_at  timestamptz,
    decided_by  text        collate "C",
    reason      text,
    constraint held_drop_pkey primary key (drop_sha256),
    constraint held_drop_of_a_drop foreign key (drop_sha256) references drop_file,
    constraint held_drop_decision_known check (decision in ('approved', 'declined')),
    constraint held_drop_is_decided_whole
        check (num_nulls(decision, decided_at, decided_by) in (0, 3) and (decision <> 'declined' or reason <> '')),
    constraint held_drop_one_name_a_uid check (cardinality(first_uids) = cardinality(first_names))
);

create table held_part (
    drop_sha256 text    collate "C" not null,
    part_no     integer not null,
    bytes       bytea   not null,
    constraint held_part_pkey primary key (drop_sha256, part_no),
    constraint held_part_of_a_held_drop foreign key (drop_sha256) references held_drop
);

-- It tells more now.
drop function if exists compare_with_ledger(uuid, timestamptz, text, text, smallint, jsonb);
