-- Record that a snapshot waits for somebody to decide, and what it would end; it may have been merged before, and undone.
-- In: sha256, error, rows_read, rows_accepted, rows_rejected, now, sent_by, is_strict, would_end, in_scope, uids, names. Out: nothing.
with waiting as (
    update drop_file
    set status = 'held', error = %(error)s, rows_read = %(rows_read)s, rows_accepted = %(rows_accepted)s,
        rows_rejected = %(rows_rejected)s, rows_unchanged = %(rows_accepted)s, rows_changed = 0, rows_late = 0, rows_superseded = 0,
        entities_ended = 0, entity_versions_added = 0, detail_versions_added = 0, rows_ending_nobody = 0, rows_fallen_together = 0,
        notes = '{}', seconds = 0, merged_at = null, batch_id = null
    where sha256 = %(sha256)s
)
insert into held_drop (drop_sha256, held_at, sent_by, is_strict, would_end, in_scope, first_uids, first_names)
values (%(sha256)s, %(now)s, %(sent_by)s, %(is_strict)s, %(would_end)s, %(in_scope)s, %(uids)s::uuid[], %(names)s::text[])
on conflict (drop_sha256) do update
set held_at = excluded.held_at, sent_by = excluded.sent_by, is_strict = excluded.is_strict, would_end = excluded.would_end,
    in_scope = excluded.in_scope, first_uids = excluded.first_uids, first_names = excluded.first_names,
    decision = null, decided_at = null, decided_by = null, reason = null
