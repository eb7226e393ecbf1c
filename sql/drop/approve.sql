-- Record that a held drop went in, because somebody approved it or because it ends less now, and forget its bytes.
-- In: sha256, by, reason, now. Out: nothing.
with forgotten as (
    delete from held_part where drop_sha256 = %(sha256)s
)
update held_drop
set decision = 'approved', decided_at = %(now)s, decided_by = %(by)s, reason = %(reason)s
where drop_sha256 = %(sha256)s
