-- Revoke the token with a name or id, the active one if there are several; a token that was revoked before keeps its instant.
-- In: name_or_id, now. Out: the token, or no row.
update access_token set revoked_at = coalesce(revoked_at, %(now)s)
where token_id = (
    select token_id
    from access_token
    where name = %(name_or_id)s or token_id = %(name_or_id)s
    order by revoked_at is not null, name <> %(name_or_id)s, created_at desc
    limit 1
)
returning token_id, name, role, created_at, expires_at, revoked_at, last_used_at
