-- What was answered to requests that carried an Idempotency-Key, so that the same request again gets the same answer.
create table idempotency_key (
    actor       text        collate "C" not null,
    key         text        collate "C" not null,
    fingerprint bytea       not null,
    outcome     text        not null,
    document    text,
    answered_at timestamptz not null,
    constraint idempotency_key_pkey primary key (actor, key)
);
create index idempotency_key_by_time on idempotency_key (answered_at);
