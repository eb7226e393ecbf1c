-- Return the hash of a superuser's password.
-- In: username. Out: password_hash, or no row.
select password_hash from superuser where username = %(username)s
