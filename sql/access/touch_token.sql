-- Record that a token was used, at most once a minute.
-- In: token_id, now. Out: nothing.
update access_token set last_used_at = %(now)s
where token_id = %(token_id)s and (last_used_at is null or last_used_at + interval '1 minute' < %(now)s)
