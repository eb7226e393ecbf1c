-- Removes sessions that have ended.
-- In: now, idle (interval). Out: nothing.
delete from session where expires_at <= %(now)s or last_used_at <= %(now)s - %(idle)s::interval
