-- Ends the sessions of an account, but for one (null: all of them).
-- In: username, but. Out: nothing.
delete from session where username = %(username)s and session_id is distinct from %(but)s
