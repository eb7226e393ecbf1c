-- Who may use the API and the admin panel: tokens by the SHA-256 of their secret, superusers by the argon2 hash of their password.
-- A token is never deleted: an API that once asked for tokens does not fall open. Small tables without a uid: on many
-- machines they are reference tables.
create table access_token (
    token_id      text        collate "C" not null,
    name          text        collate "C" not null,
    role          text        not null,
    secret_sha256 bytea       not null,
    created_at    timestamptz not null,
    expires_at    timestamptz,
    revoked_at    timestamptz,
    last_used_at  timestamptz,
    constraint access_token_pkey primary key (token_id),
    constraint access_token_id_is_plain check (token_id ~ '^[a-z0-9]{12,}$'),
    constraint access_token_has_a_name check (name <> ''),
    constraint access_token_role_known check (role in ('reader', 'writer', 'admin')),
    constraint access_token_secret_is_hashed check (octet_length(secret_sha256) = 32)
);
create unique index access_token_one_of_a_name on access_token (name) where revoked_at is null;

create table superuser (
    username      text        collate "C" not null,
    password_hash text        not null,
    created_at    timestamptz not null,
    constraint superuser_pkey primary key (username),
    constraint superuser_has_a_name check (username <> ''),
    constraint superuser_password_is_hashed check (password_hash like '$argon2%')
);
