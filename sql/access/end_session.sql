-- Ends a session of an account.
-- In: session_id, username. Out: nothing; one row counted if there was one.
delete from session where session_id = %(session_id)s and username = %(username)s
