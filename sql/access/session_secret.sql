-- The session of an id, if it has not ended, with the hash of its secret.
-- In: session_id, now, idle (interval). Out: username, role, secret_sha256, last_used_at; or no row.
select s.username, a.role, s.secret_sha256, s.last_used_at
from session s
join account a using (username)
where s.session_id = %(session_id)s
  and a.is_active
  and s.expires_at > %(now)s
  and s.last_used_at > %(now)s - %(idle)s::interval
