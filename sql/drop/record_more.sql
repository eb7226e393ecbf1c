-- Add the rows of a merged drop that were rejected before and are accepted now, in the transaction that merges them.
-- In: the fields of the report. Out: nothing.
update drop_file
set rows_read = %(rows_read)s, rows_accepted = %(rows_accepted)s, rows_rejected = %(rows_rejected)s,
    rows_changed = rows_changed + %(rows_changed)s,
    rows_unchanged = %(rows_accepted)s - rows_changed - %(rows_changed)s,
    rows_late = rows_late + %(rows_late)s, rows_superseded = rows_superseded + %(rows_superseded)s,
    entities_ended = entities_ended + %(entities_ended)s,
    entity_versions_added = entity_versions_added + %(entity_versions_added)s,
    detail_versions_added = detail_versions_added + %(detail_versions_added)s,
    rows_ending_nobody = rows_ending_nobody + %(rows_ending_nobody)s,
    rows_fallen_together = rows_fallen_together + %(rows_fallen_together)s, notes = %(notes)s
where sha256 = %(sha256)s
