-- Find who declined a drop, when and why.
-- In: sha256. Out: decided_by, decided_at, reason.
select decided_by, decided_at, reason from held_drop where drop_sha256 = %(sha256)s and decision = 'declined'
