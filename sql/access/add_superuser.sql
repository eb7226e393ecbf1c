-- Create a superuser, unless one has that name.
-- In: username, password_hash, now. Out: nothing; one row is counted if it was created.
insert into superuser (username, password_hash, created_at)
values (%(username)s, %(password_hash)s, %(now)s)
on conflict (username) do nothing
