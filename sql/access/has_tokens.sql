-- Whether any token was ever made.
-- In: nothing. Out: one row: has_tokens.
select exists (select from access_token)
