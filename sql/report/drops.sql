-- Return what each drop did, newest first, for the given drops or all; and whether its counts balance with the stored rows.
-- In: sha256s (null: any), limit. Out: the fields of DropReport that are single values.
select sha256, file_name, bytes, status, first_seen_at, merged_at, batch_id,
       rows_read, rows_accepted, rows_rejected, rows_changed, rows_unchanged, rows_late, rows_superseded, entities_ended,
       entity_versions_added, detail_versions_added, seconds, error, rows_ending_nobody, rows_fallen_together, notes,
       rows_rejected / nullif(rows_read, 0)::float8 as reject_share,
       status <> 'merged' or (
           rows_read = rows_accepted + rows_rejected and rows_accepted = rows_changed + rows_unchanged
           and rejects = rows_rejected and changes between rows_changed and rows_accepted
       ) as balances
from (
    select * from drop_file
    where %(sha256s)s::text[] is null or sha256 = any (%(sha256s)s)
    order by first_seen_at desc, sha256
    limit %(limit)s
) drops
cross join lateral (select count(*) as rejects from reject where drop_sha256 = drops.sha256) kept
cross join lateral (
    select count(*) as changes
    from batch b
    join ledger l on l.batch_id = b.batch_id
    where b.drop_sha256 = drops.sha256 and b.batch_id not in (select of_batch_id from undone_batches('infinity'))
) recorded
order by first_seen_at desc, sha256
