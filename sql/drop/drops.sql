-- Return what each drop did, newest first, after a given one.
-- In: after_first_seen_at and after_sha256 (null: from the start), limit, offset. Out: document, first_seen_at, sha256.
select row_to_json(document)::text, page.first_seen_at, page.sha256
from (
    select *
    from drop_file
    where %(after_sha256)s::text is null
       or first_seen_at < %(after_first_seen_at)s
       or (first_seen_at = %(after_first_seen_at)s and sha256 > %(after_sha256)s)
    order by first_seen_at desc, sha256
    limit %(limit)s offset %(offset)s
) page
cross join lateral (
    select sha256, file_name as file, bytes, status, utc(first_seen_at) as first_seen_at, utc(merged_at) as merged_at,
           rows_read, rows_accepted, rows_rejected, rows_changed, rows_unchanged, rows_late, rows_superseded, entities_ended,
           entity_versions_added, detail_versions_added, seconds, error, rows_ending_nobody, rows_fallen_together, notes, profile,
           mode, scope, utc(snapshot_at) as snapshot_at, held_document(page.sha256) as held
) document
order by page.first_seen_at desc, page.sha256
