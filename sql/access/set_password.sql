-- Sets the password of an account.
-- In: username, password_hash, now. Out: nothing; one row counted if there is such an account.
update account set password_hash = %(password_hash)s, password_at = %(now)s where username = %(username)s
