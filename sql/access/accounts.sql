-- Every account.
-- In: nothing. Out: the accounts, in order of username.
select username, role, is_active, created_at, password_at, last_login_at
from account
order by username
