-- Return whether any token is active.
-- In: now. Out: one row: has_active_token.
select exists (
    select from access_token where revoked_at is null and (expires_at is null or expires_at > %(now)s)
)
