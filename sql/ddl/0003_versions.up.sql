-- The versions: one row an entity (or detail of an entity) and interval [valid_from, valid_to); valid_to null is open.
-- They are a fold of the ledger, kept in place; entity_uid leads every key, so that both tables distribute by it.
-- The exclusions are of all rows (entity_finite sees to it), and say so by a condition that no query states: their
-- indexes then only enforce, and are never read. PostgreSQL (seen on 15 and 18) can mark live entries of a GiST index
-- dead when a nested loop stops early in it and scans it again; what was so lost, the exclusion would no longer see.
create table entity (
    entity_uid     uuid        not null,
    display_name   text        not null,
    entity_type_id smallint    not null,
    hashdiff       bytea       not null,
    valid_from     timestamptz not null,
    valid_to       timestamptz,
    is_current     boolean     not null,
    constraint entity_pkey primary key (entity_uid, valid_from),
    constraint entity_has_a_type foreign key (entity_type_id) references entity_type,
    constraint entity_current_is_open check (is_current = (valid_to is null)),
    constraint entity_not_empty check (valid_to > valid_from),
    constraint entity_finite check (isfinite(valid_from) and isfinite(valid_to)),
    constraint entity_named check (display_name <> ''),
    constraint entity_hashed check (octet_length(hashdiff) = 32),
    constraint entity_no_overlap exclude using gist
        (entity_uid with =, tstzrange(valid_from, coalesce(valid_to, 'infinity'), '[)') with &&)
        where (isfinite(valid_from))
);

create table entity_detail (
    entity_uid     uuid        not null,
    detail_type_id smallint    not null,
    detail_value   text        not null,
    hashdiff       bytea       not null,
    valid_from     timestamptz not null,
    valid_to       timestamptz,
    is_current     boolean     not null,
    constraint entity_detail_pkey primary key (entity_uid, detail_type_id, valid_from),
    constraint entity_detail_has_a_type foreign key (detail_type_id) references detail_type,
    constraint entity_detail_current_is_open check (is_current = (valid_to is null)),
    constraint entity_detail_not_empty check (valid_to > valid_from),
    constraint entity_detail_finite check (isfinite(valid_from) and isfinite(valid_to)),
    constraint entity_detail_valued check (detail_value <> ''),
    constraint entity_detail_hashed check (octet_length(hashdiff) = 32),
    constraint entity_detail_no_overlap exclude using gist
        (entity_uid with =, detail_type_id with =, tstzrange(valid_from, coalesce(valid_to, 'infinity'), '[)') with &&)
        where (isfinite(valid_from))
);

-- One current row; these also serve the current snapshot. No text value stands in a btree: a long one would overflow it.
create unique index entity_one_current on entity (entity_uid) where is_current;
create unique index entity_detail_one_current on entity_detail (entity_uid, detail_type_id) where is_current;

-- The list by name, of all types and of one; a name's first 200 characters find it, the full name orders it.
create index entity_by_name on entity (left(display_name, 200)) where is_current;
create index entity_by_type_and_name on entity (entity_type_id, left(display_name, 200)) where is_current;

-- q=: any part of a current name, whatever the case.
create index entity_by_part_of_name on entity using gin (display_name gin_trgm_ops) where is_current;

-- email=: equality in the detail type's own comparison is equality of hashdiffs, for current and past versions.
create index entity_detail_by_value on entity_detail using hash (hashdiff);

-- diff: versions that begin or end within a window; drops arrive in order of time, so block ranges find them.
create index entity_by_time on entity using brin
    (valid_from timestamptz_minmax_multi_ops, valid_to timestamptz_minmax_multi_ops) with (pages_per_range = 32);
create index entity_detail_by_time on entity_detail using brin
    (valid_from timestamptz_minmax_multi_ops, valid_to timestamptz_minmax_multi_ops) with (pages_per_range = 32);
