-- Record that a held drop is declined.
-- In: sha256, by, reason, now. Out: nothing.
with declined as (
    update drop_file set status = 'declined' where sha256 = %(sha256)s
)
update held_drop
set decision = 'declined', decided_at = %(now)s, decided_by = %(by)s, reason = %(reason)s
where drop_sha256 = %(sha256)s
