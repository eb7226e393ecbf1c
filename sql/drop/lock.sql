-- Lock a drop, so that others cannot merge it at the same time, and return what is known about it.
-- In: sha256. Out: first_seen_at, status and the counts; snapshot_at.
select first_seen_at, status, rows_read, rows_accepted, rows_rejected, snapshot_at
from drop_file
where sha256 = %(sha256)s
for update
