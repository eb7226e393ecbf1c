-- The versions: one row for each entity (or detail of an entity) and interval [valid_from, valid_to); valid_to null is open.
-- They are a fold of the ledger, kept in place. entity_uid leads every key, so both tables can be distributed by it.
create table entity (
    entity_uid     uuid        not null,
    display_name   text        collate "C" not null,
    entity_type_id smallint    not null,
    hashdiff       bytea       not null,
    valid_from     timestamptz not null,
    valid_to       timestamptz,
    is_current     boolean     not null,
    created_at     timestamptz not null default now(),  -- when the row was first written
    updated_at     timestamptz not null default now(),  -- when it was last touched
    constraint entity_pkey primary key (entity_uid, valid_from),
    constraint entity_has_a_type foreign key (entity_type_id) references entity_type,
    constraint entity_current_is_open check (is_current = (valid_to is null)),
    constraint entity_not_empty check (valid_to > valid_from),
    constraint entity_finite check (isfinite(valid_from) and isfinite(valid_to)),
    constraint entity_named check (display_name <> ''),
    constraint entity_name_length check (char_length(display_name) <= 500),
    constraint entity_hashed check (octet_length(hashdiff) = 32)
);

create table entity_detail (
    entity_uid     uuid        not null,
    detail_type_id smallint    not null,
    detail_value   text        collate "C" not null,
    hashdiff       bytea       not null,
    valid_from     timestamptz not null,
    valid_to       timestamptz,
    is_current     boolean     not null,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    constraint entity_detail_pkey primary key (entity_uid, detail_type_id, valid_from),
    constraint entity_detail_has_a_type foreign key (detail_type_id) references detail_type,
    constraint entity_detail_current_is_open check (is_current = (valid_to is null)),
    constraint entity_detail_not_empty check (valid_to > valid_from),
    constraint entity_detail_finite check (isfinite(valid_from) and isfinite(valid_to)),
    constraint entity_detail_valued check (detail_value <> ''),
    constraint entity_detail_value_length check (octet_length(detail_value) <= 100000),
    constraint entity_detail_hashed check (octet_length(hashdiff) = 32)
);

-- Versions never overlap. The condition always holds, and no query states it, so the planner never reads these two indexes:
-- PostgreSQL can lose live entries of a GiST index that a nested loop leaves early and scans again.
alter table entity add constraint exclude_overlapping_entities exclude using gist (
    entity_uid with =,
    tstzrange(valid_from, coalesce(valid_to, 'infinity'), '[)') with &&
) where (isfinite(valid_from));
alter table entity_detail add constraint exclude_overlapping_details exclude using gist (
    entity_uid with =,
    detail_type_id with =,
    tstzrange(valid_from, coalesce(valid_to, 'infinity'), '[)') with &&
) where (isfinite(valid_from));

-- One current version of each; these serve the current snapshot too.
create unique index unique_current_entity on entity (entity_uid) where is_current;
create unique index unique_current_entity_detail on entity_detail (entity_uid, detail_type_id) where is_current;

-- The list by name, of all types and of one, and its count. A name of 500 characters fits into a btree.
create index entity_by_name on entity (display_name, entity_uid) where is_current;
create index entity_by_type_and_name on entity (entity_type_id, display_name, entity_uid) where is_current;

-- email=: equality in the detail type's own comparison is equality of hashdiffs, for current and past versions.
create index entity_detail_by_value on entity_detail using hash (hashdiff);

-- diff: versions that begin or end within a window. Drops arrive in order of time, so block ranges find them.
create index entity_by_time on entity using brin
    (valid_from timestamptz_minmax_multi_ops, valid_to timestamptz_minmax_multi_ops) with (pages_per_range = 32);
create index entity_detail_by_time on entity_detail using brin
    (valid_from timestamptz_minmax_multi_ops, valid_to timestamptz_minmax_multi_ops) with (pages_per_range = 32);
