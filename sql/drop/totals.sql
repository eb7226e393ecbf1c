-- Count the drops by status, and add up their rows.
-- In: nothing. Out: status, drops, rows_read, rows_accepted, rows_rejected, rows_changed, rows_unchanged, rows_late, last_seen_at.
select status, count(*), sum(rows_read)::bigint, sum(rows_accepted)::bigint, sum(rows_rejected)::bigint, sum(rows_changed)::bigint,
       sum(rows_unchanged)::bigint, sum(rows_late)::bigint, max(first_seen_at)
from drop_file
group by status
order by status
