-- Return the token with an id, if it is active, and the hash of its secret.
-- In: token_id, now. Out: name, role, secret_sha256; or no row.
select name, role, secret_sha256
from access_token
where token_id = %(token_id)s and revoked_at is null and (expires_at is null or expires_at > %(now)s)
