-- Drops by the SHA-256 of their bytes, what each did (the books balance), and the rows it was refused.
create table drop_file (
    sha256                text        collate "C" not null,
    file_name             text        not null,
    bytes                 bigint      not null,
    first_seen_at         timestamptz not null,
    status                text        not null,
    merged_at             timestamptz,
    batch_id              bigint,
    rows_read             bigint      not null default 0,
    rows_accepted         bigint      not null default 0,
    rows_rejected         bigint      not null default 0,
    rows_changed          bigint      not null default 0,
    rows_unchanged        bigint      not null default 0,
    rows_late             bigint      not null default 0,
    rows_superseded       bigint      not null default 0,
    entity_versions_added bigint      not null default 0,
    detail_versions_added bigint      not null default 0,
    rows_ending_nobody    bigint      not null default 0,
    rows_fallen_together  bigint      not null default 0,
    seconds               double precision not null default 0,
    error                 text,
    notes                 text[]      not null default '{}',
    header                text,  -- as it stood, if rows were rejected: for a file of them
    constraint drop_file_pkey primary key (sha256),
    constraint drop_file_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    constraint drop_file_status_known check (status in ('seen', 'merged', 'refused')),
    constraint drop_file_read_balances check (rows_read = rows_accepted + rows_rejected or status <> 'merged'),
    constraint drop_file_accepted_balances check (rows_accepted = rows_changed + rows_unchanged or status <> 'merged'),
    constraint drop_file_merged_has_a_batch check ((status = 'merged') = (merged_at is not null and batch_id is not null))
);
create index drop_file_by_time on drop_file (first_seen_at desc, sha256);
-- What a drop recorded: one batch (drop_file.batch_id), and another each time that rows it was refused go in after all.
create index batch_by_drop on batch (drop_sha256) where drop_sha256 is not null;

create table reject (
    drop_sha256 text   collate "C" not null,
    line        bigint not null,
    reasons     text[] not null,
    raw         text   not null,
    constraint reject_pkey primary key (drop_sha256, line),
    constraint reject_of_a_drop foreign key (drop_sha256) references drop_file,
    constraint reject_has_a_reason check (cardinality(reasons) > 0)
);
