-- Makes an account, unless there is one of that name.
-- In: username, password_hash, role, now. Out: the account, or no row.
insert into account (username, password_hash, role, created_at, password_at)
values (%(username)s, %(password_hash)s, %(role)s, %(now)s, %(now)s)
on conflict (username) do nothing
returning username, role, is_active, created_at, password_at, last_login_at
