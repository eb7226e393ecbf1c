-- How many sessions each account has that have not ended.
-- In: now, idle (interval). Out: username, sessions.
select username, count(*)
from session
where expires_at > %(now)s and last_used_at > %(now)s - %(idle)s::interval
group by username
