-- The sessions of an account that have not ended.
-- In: username, now, idle (interval). Out: the sessions, last used first.
select session_id, username, created_at, last_used_at, expires_at, address, user_agent
from session
where username = %(username)s and expires_at > %(now)s and last_used_at > %(now)s - %(idle)s::interval
order by last_used_at desc, session_id
