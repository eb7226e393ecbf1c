-- Whether anyone may sign in.
-- In: nothing. Out: one row: has_active_account.
select exists (select from account where is_active)
