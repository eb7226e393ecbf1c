-- Begins a session of an account that may sign in, and notes the login.
-- In: session_id, secret_sha256, username, now, expires_at, address, user_agent. Out: nothing; one row counted if begun.
with login as (
    update account set last_login_at = %(now)s where username = %(username)s and is_active returning username
)
insert into session (session_id, secret_sha256, username, created_at, last_used_at, expires_at, address, user_agent)
select %(session_id)s, %(secret_sha256)s, username, %(now)s, %(now)s, %(expires_at)s, %(address)s, %(user_agent)s
from login
