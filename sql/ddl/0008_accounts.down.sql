-- Keeps of the accounts those of admins, as superusers.
create table superuser (
    username      text        collate "C" not null,
    password_hash text        not null,
    created_at    timestamptz not null,
    constraint superuser_pkey primary key (username),
    constraint superuser_has_a_name check (username <> ''),
    constraint superuser_password_is_hashed check (password_hash like '$argon2%')
);
insert into superuser select username, password_hash, created_at from account where role = 'admin' and is_active;
drop table session;
drop table account;
