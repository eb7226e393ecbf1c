-- Whether a token was ever made, or an account.
-- In: nothing. Out: one row: is_closed.
select exists (select from access_token) or exists (select from account)
