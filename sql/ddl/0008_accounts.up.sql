-- People who sign in to the cockpit: accounts by the argon2 hash of their password, sessions by the SHA-256 of their secret.
-- The superusers of before become accounts that may do everything. Small tables without a uid, like the tokens.
create table account (
    username      text        collate "C" not null,
    password_hash text        not null,
    role          text        not null,
    is_active     boolean     not null default true,
    created_at    timestamptz not null,
    password_at   timestamptz not null,  -- when the password was last set
    last_login_at timestamptz,
    constraint account_pkey primary key (username),
    constraint account_has_a_name check (username <> ''),
    constraint account_role_known check (role in ('reader', 'writer', 'admin')),
    constraint account_password_is_hashed check (password_hash like '$argon2%')
);
insert into account (username, password_hash, role, created_at, password_at)
select username, password_hash, 'admin', created_at, created_at from superuser;
drop table superuser;

create table session (
    session_id    text        collate "C" not null,  -- the part that may be shown
    secret_sha256 bytea       not null,
    username      text        collate "C" not null,
    created_at    timestamptz not null,
    last_used_at  timestamptz not null,  -- to the minute
    expires_at    timestamptz not null,  -- at the latest, however much it is used
    address       text        not null,
    user_agent    text        not null,
    constraint session_pkey primary key (session_id),
    constraint session_is_of_an_account foreign key (username) references account on delete cascade,
    constraint session_secret_is_hashed check (octet_length(secret_sha256) = 32)
);
create index session_by_username on session (username);
