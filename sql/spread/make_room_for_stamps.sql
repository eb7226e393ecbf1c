-- Create the table of batches that are stamped when they are committed: no trigger can be on a table that lies on all machines.
-- In, out: nothing.
create table if not exists batch_to_stamp (
    batch_id    bigint not null,
    source      text   not null,
    drop_sha256 text collate "C",
    constraint batch_to_stamp_pkey primary key (batch_id)
)
