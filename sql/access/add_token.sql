-- Create a token, unless an active one has that name.
-- In: token_id, name, role, secret_sha256, now, expires_at. Out: the token, or no row.
insert into access_token (token_id, name, role, secret_sha256, created_at, expires_at)
values (%(token_id)s, %(name)s, %(role)s, %(secret_sha256)s, %(now)s, %(expires_at)s)
on conflict (name) where revoked_at is null do nothing
returning token_id, name, role, created_at, expires_at, revoked_at, last_used_at
