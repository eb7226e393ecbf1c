-- Return whether any token was ever created.
-- In: nothing. Out: one row: has_tokens.
select exists (select from access_token)
