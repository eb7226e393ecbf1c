-- Makes a superuser, unless there is one of that name.
-- In: username, password_hash, now. Out: nothing; one row counted if made.
insert into superuser (username, password_hash, created_at)
values (%(username)s, %(password_hash)s, %(now)s)
on conflict (username) do nothing
