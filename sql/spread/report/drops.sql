-- Return what each drop did, newest first, for the given drops or all; and whether its counts balance with the stored rows.
-- In: sha256s (null: any), limit. Out: the fields of DropReport that are single values.
with drops as materialized (
    select * from drop_file
    where %(sha256s)s::text[] is null or sha256 = any (%(sha256s)s)
    order by first_seen_at desc, sha256
    limit %(limit)s
),
kept as materialized (
    select drop_sha256 as sha256, count(*) as rejects
    from reject where drop_sha256 = any (array(select sha256 from drops)) group by drop_sha256
),
its_batches as materialized (
    select b.batch_id, b.drop_sha256 as sha256
    from batch b
    where b.drop_sha256 = any (array(select sha256 from drops)) and b.batch_id not in (select of_batch_id from undone_batches('infinity'))
),
counted as materialized (
    select batch_id, count(*) as changes from ledger where batch_id = any (array(select batch_id from its_batches)) group by batch_id
),
recorded as materialized (
    select sha256, sum(changes) as changes from its_batches join counted using (batch_id) group by sha256
)
select sha256, file_name, bytes, status, first_seen_at, merged_at, batch_id,
       rows_read, rows_accepted, rows_rejected, rows_changed, rows_unchanged, rows_late, rows_superseded, entities_ended,
       entity_versions_added, detail_versions_added, seconds, error, rows_ending_nobody, rows_fallen_together, notes,
       rows_rejected / nullif(rows_read, 0)::float8 as reject_share,
       status <> 'merged' or (
           rows_read = rows_accepted + rows_rejected and rows_accepted = rows_changed + rows_unchanged
           and coalesce(rejects, 0) = rows_rejected and coalesce(changes, 0) between rows_changed and rows_accepted
       ) as balances
from drops
left join kept using (sha256)
left join recorded using (sha256)
order by first_seen_at desc, sha256
