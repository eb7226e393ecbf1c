-- Notes that a session was used, once a minute at most.
-- In: session_id, now. Out: nothing.
update session set last_used_at = %(now)s
where session_id = %(session_id)s and last_used_at + interval '1 minute' < %(now)s
