-- Return what one drop did.
-- In: sha256. Out: document; no row if no such drop was ever received.
select row_to_json(document)::text
from (
    select sha256, file_name as file, bytes, status, utc(first_seen_at) as first_seen_at, utc(merged_at) as merged_at,
           rows_read, rows_accepted, rows_rejected, rows_changed, rows_unchanged, rows_late, rows_superseded, entities_ended,
           entity_versions_added, detail_versions_added, seconds, error, rows_ending_nobody, rows_fallen_together, notes, profile,
           mode, scope, utc(snapshot_at) as snapshot_at, held_document(drop_file.sha256) as held
    from drop_file
    where sha256 = %(sha256)s
) document
