-- Reads what is known of a drop, and keeps others from merging it at the same time.
-- In: sha256. Out: first_seen_at, status and the books.
select first_seen_at, status, rows_read, rows_accepted, rows_rejected
from drop_file
where sha256 = %(sha256)s
for update
