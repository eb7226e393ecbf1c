-- The versions: one row an entity (or detail of an entity) and interval [valid_from, valid_to); valid_to null is open.
-- They are a fold of the ledger, kept in place; entity_uid leads every key, so that both tables distribute by it.
--
-- The versions of one key are a chain: each names where the next one begins (next_from) and ends no later; no two name the
-- same; only one names none. So none overlap: every name is a later beginning, and if n versions name n - 1 different ones,
-- each can only name the very next. Checks, btrees and a foreign key see to it, the last when the transaction ends, for a
-- fraction of what an exclusion of ranges costs.
create table entity (
    entity_uid     uuid        not null,
    display_name   text collate "C" not null,
    entity_type_id smallint    not null,
    hashdiff       bytea       not null,
    valid_from     timestamptz not null,
    valid_to       timestamptz,
    next_from      timestamptz,
    is_current     boolean     not null,
    constraint entity_pkey primary key (entity_uid, valid_from),
    constraint entity_has_a_type foreign key (entity_type_id) references entity_type,
    constraint entity_current_is_open check (is_current = (valid_to is null)),
    constraint entity_not_empty check (valid_to > valid_from),
    constraint entity_finite check (isfinite(valid_from) and isfinite(valid_to)),
    constraint entity_named check (display_name <> ''),
    constraint entity_hashed check (octet_length(hashdiff) = 32),
    constraint entity_no_overlap check (next_from is null or (valid_to is not null and valid_to <= next_from)),
    constraint entity_next_exists foreign key (entity_uid, next_from) references entity (entity_uid, valid_from)
        deferrable initially deferred
);

create table entity_detail (
    entity_uid     uuid        not null,
    detail_type_id smallint    not null,
    detail_value   text collate "C" not null,
    hashdiff       bytea       not null,
    valid_from     timestamptz not null,
    valid_to       timestamptz,
    next_from      timestamptz,
    is_current     boolean     not null,
    constraint entity_detail_pkey primary key (entity_uid, detail_type_id, valid_from),
    constraint entity_detail_has_a_type foreign key (detail_type_id) references detail_type,
    constraint entity_detail_current_is_open check (is_current = (valid_to is null)),
    constraint entity_detail_not_empty check (valid_to > valid_from),
    constraint entity_detail_finite check (isfinite(valid_from) and isfinite(valid_to)),
    constraint entity_detail_valued check (detail_value <> ''),
    constraint entity_detail_hashed check (octet_length(hashdiff) = 32),
    constraint entity_detail_no_overlap check (next_from is null or (valid_to is not null and valid_to <= next_from)),
    constraint entity_detail_next_exists foreign key (entity_uid, detail_type_id, next_from)
        references entity_detail (entity_uid, detail_type_id, valid_from) deferrable initially deferred
);

-- One version without a next one, which is the current one if any is: it serves the current snapshot too.
create unique index entity_one_last on entity (entity_uid) where next_from is null;
create unique index entity_detail_one_last on entity_detail (entity_uid, detail_type_id) where next_from is null;

-- One version before each.
create unique index entity_one_before on entity (entity_uid, next_from) where next_from is not null;
create unique index entity_detail_one_before on entity_detail (entity_uid, detail_type_id, next_from)
    where next_from is not null;

-- The current version of each key, and what a read of many of them or a merge needs of it without its row.
create unique index unique_current_entity on entity (entity_uid) include (hashdiff, valid_from, entity_type_id) where is_current;
create unique index unique_current_entity_detail on entity_detail (entity_uid, detail_type_id) include (hashdiff, valid_from)
    where is_current;

-- The list by name, of all types and of one; a name has at most 500 characters, so it stands in a btree as it is.
create index entity_by_name on entity (display_name, entity_uid) where is_current;
create index entity_by_type_and_name on entity (entity_type_id, display_name, entity_uid) where is_current;

-- email=: equality in the detail type's own comparison is equality of hashdiffs, for current and past versions.
create index entity_detail_by_value on entity_detail using hash (hashdiff);

-- diff: versions that begin or end within a window; drops arrive in order of time, so block ranges find them.
create index entity_by_time on entity using brin
    (valid_from timestamptz_minmax_multi_ops, valid_to timestamptz_minmax_multi_ops) with (pages_per_range = 32);
create index entity_detail_by_time on entity_detail using brin
    (valid_from timestamptz_minmax_multi_ops, valid_to timestamptz_minmax_multi_ops) with (pages_per_range = 32);
