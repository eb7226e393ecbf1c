-- Have batches stamped by way of a table at the coordinator.
-- In, out: nothing.
create table if not exists batch_to_stamp (
    batch_id    bigint not null,
    source      text   not null,
    drop_sha256 text collate "C",
    constraint batch_to_stamp_pkey primary key (batch_id)
);
drop trigger if exists batch_is_stamped on batch
