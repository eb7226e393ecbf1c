-- The ledger: every accepted change with what it asserted, never updated; versions, audit and as-known reads come from it.
-- A batch is one transaction that recorded changes (a drop, a request, a fixture); recording order is (batch_id, row_no).
-- No foreign key leads to batch: it is written in the same transaction as the ledger, which can be distributed.
create table batch (
    batch_id    bigint generated always as identity,
    recorded_at timestamptz not null,
    actor       text        collate "C" not null,
    source      text        not null,
    drop_sha256 text        collate "C",
    request_id  text,
    constraint batch_pkey primary key (batch_id),
    constraint batch_source_known check (source in ('drop', 'request', 'fixture')),
    constraint batch_from_a_drop check ((source = 'drop') = (drop_sha256 is not null))
);
create index batch_by_recorded_at on batch (recorded_at);

-- A batch is of the moment when it is committed, so that no later one can claim an earlier moment. The lock is shared by those that
-- commit; a read as known at an instant waits until it has it alone, so what was of an earlier moment is there to see.
create function stamp_batch() returns trigger language plpgsql as $$
declare
    moment timestamptz;
begin
    perform pg_advisory_xact_lock_shared(3141592, 64);  -- the buckets of entities are 0 to 63
    moment := greatest(clock_timestamp(), (select max(recorded_at) from batch) + interval '1 microsecond');
    update batch set recorded_at = moment where batch_id = new.batch_id;
    if new.source = 'drop' then
        update drop_file set merged_at = moment where sha256 = new.drop_sha256 and batch_id = new.batch_id;
    end if;
    return null;
end
$$;
create constraint trigger batch_is_stamped after insert on batch
    deferrable initially deferred for each row
    when (new.recorded_at >= now()) execute function stamp_batch();  -- what is copied from elsewhere keeps its moment

create table ledger (
    entity_uid     uuid        not null,
    change_ts      timestamptz not null,
    batch_id       bigint      not null,
    row_no         integer     not null,
    op             text        not null,
    display_name   text        collate "C",
    entity_type_id smallint,
    details        jsonb,
    constraint ledger_pkey primary key (entity_uid, change_ts, batch_id, row_no),
    constraint ledger_op_known check (op in ('upsert', 'patch', 'delete')),
    constraint ledger_finite check (isfinite(change_ts)),
    constraint ledger_upsert_is_complete check (op <> 'upsert' or (display_name is not null and entity_type_id is not null)),
    constraint ledger_delete_is_bare
        check (op <> 'delete' or (display_name is null and entity_type_id is null and details is null)),
    constraint ledger_details_are_an_object check (jsonb_typeof(details) = 'object')
);
-- What one batch recorded: the table grows in batch order.
create index ledger_by_batch on ledger using brin (batch_id) with (pages_per_range = 16);

-- Whether a late change is followed by a partial one: no later change need be looked at.
create index ledger_patches on ledger (entity_uid, change_ts) where op = 'patch';

-- Reads as known at an instant run over the views of this schema, which have the names of the tables: see sql/routines.
create schema known;
-- The fold of one entity, for requests: see sql/routines.
create schema single;
