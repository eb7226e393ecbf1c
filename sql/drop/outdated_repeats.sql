-- Find the rows of a batch that repeat what another change at the same instant supersedes.
-- In: batch_id, limit; repeat, ledger. Out: lines of the first.
select r.row_no
from repeat r
where r.batch_id = %(batch_id)s
  and exists (
      select from ledger l
      where l.entity_uid = r.entity_uid and l.change_ts = r.change_ts and l.acts
        and (l.batch_id, l.row_no) > (r.of_batch_id, r.of_row_no) and l.batch_id <> r.batch_id)
order by r.row_no
limit %(limit)s
