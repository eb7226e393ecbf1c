-- The feed reads batches in the order in which they were committed, and of each batch the entities that it names, page by page.
-- A block range of the ledger would be read whole for each page of a large batch.
drop index batch_by_recorded_at;
create index batch_by_recorded_at on batch (recorded_at, batch_id);

drop index ledger_by_batch;
create index ledger_by_batch on ledger (batch_id, entity_uid);

-- A batch can be undone, and reinstated: that is recorded as a batch of its own. What is undone stays in the ledger and does not act.
alter table batch drop constraint batch_source_known;
alter table batch add constraint batch_source_known check (source in ('drop', 'request', 'fixture', 'undo', 'reinstate'));

create table retraction (
    of_batch_id   bigint  not null,  -- what is undone, or reinstated
    batch_id      bigint  not null,  -- by this batch
    is_reinstated boolean not null,
    reason        text    not null,
    constraint retraction_pkey primary key (of_batch_id, batch_id),
    constraint retraction_has_a_reason check (reason <> '')
);
create index retraction_by_batch on retraction (batch_id, of_batch_id);

-- Whether a change acts follows from the retractions; it is kept, for each look-up of a merge wants it. A change that was a repeat
-- when it was recorded comes into the ledger when it stands in the place of another for the first time.
alter table ledger
    add column acts        boolean not null default true,
    add column promoted_by bigint;  -- the batch by which a repeat came in

-- What said again what the ledger says of the same instant: it stands in its place when that is undone.
create table repeat (
    entity_uid   uuid        not null,
    change_ts    timestamptz not null,
    batch_id     bigint      not null,
    row_no       integer     not null,
    of_batch_id  bigint      not null,  -- the change of the ledger that says the same of that instant
    of_row_no    integer     not null,
    constraint repeat_pkey primary key (entity_uid, change_ts, batch_id, row_no)
);
create index repeat_by_batch on repeat using brin (batch_id) with (pages_per_range = 16);

alter table drop_file drop constraint drop_file_status_known;
alter table drop_file add constraint drop_file_status_known check (status in ('seen', 'merged', 'refused', 'undone'));
alter table drop_file drop constraint drop_file_merged_has_a_batch;
alter table drop_file add constraint drop_file_merged_has_a_batch
    check ((status in ('merged', 'undone')) = (merged_at is not null and batch_id is not null));
