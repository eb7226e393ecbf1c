-- Return the drops that are held, and those that were refused since an instant, unless a later drop of the same name has come.
-- In: since. Out: file_name, sha256, status, error, first_seen_at; the first 1,000.
select file_name, sha256, status, error, first_seen_at
from drop_file d
where (status = 'held' or (status = 'refused' and first_seen_at > %(since)s))
  and not exists (select from drop_file later where later.file_name = d.file_name and later.first_seen_at > d.first_seen_at)
order by first_seen_at, file_name
limit 1000
