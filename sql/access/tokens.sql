-- Return every token that was ever created.
-- In: nothing. Out: the tokens, in order of created_at, then token_id.
select token_id, name, role, created_at, expires_at, revoked_at, last_used_at
from access_token
order by created_at, token_id
