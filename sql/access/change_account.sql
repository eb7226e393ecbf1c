-- Changes the role of an account and whether it may sign in; null leaves either as it is.
-- In: username, role, is_active. Out: the account, or no row.
update account
set role = coalesce(%(role)s, role), is_active = coalesce(%(is_active)s, is_active)
where username = %(username)s
returning username, role, is_active, created_at, password_at, last_login_at
