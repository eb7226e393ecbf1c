-- The counts of every merged drop not undone balance with its rejects and its rows in the ledger, in one batch or several.
-- In: nothing. Out: one line for each breach.
select format('drop %s (%s): %s read, %s accepted, %s rejected, %s changed, %s unchanged; %s rejects kept, %s changes in the ledger',
              file_name, left(sha256, 12), rows_read, rows_accepted, rows_rejected, rows_changed, rows_unchanged, rejects, changes)
from drop_file
left join (select drop_sha256 as sha256, count(*) as rejects from reject group by drop_sha256) kept using (sha256)
left join (
    select b.drop_sha256 as sha256, sum(l.changes) as changes
    from (select batch_id, count(*) as changes from ledger group by batch_id) l
    join batch b on b.batch_id = l.batch_id
    where b.batch_id not in (select of_batch_id from undone_batches('infinity'))
    group by b.drop_sha256
) recorded using (sha256)
where status = 'merged'
  and (rows_read <> rows_accepted + rows_rejected or rows_accepted <> rows_changed + rows_unchanged
       or coalesce(rejects, 0) <> rows_rejected or coalesce(changes, 0) not between rows_changed and rows_accepted)
