-- Free the name of an expired token.
-- In: name, now. Out: nothing.
update access_token set revoked_at = expires_at
where name = %(name)s and revoked_at is null and expires_at <= %(now)s
