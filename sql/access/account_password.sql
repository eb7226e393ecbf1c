-- An account with the hash of its password.
-- In: username. Out: password_hash, then the account; or no row.
select password_hash, username, role, is_active, created_at, password_at, last_login_at
from account
where username = %(username)s
