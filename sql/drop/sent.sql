-- Find drops that were merged by others than one actor, in the order in which that was committed, from behind an instant.
-- In: actor, after, until (the last moment; infinity: no bound), limit (more if several are of the same moment).
-- Out: merged_at, sha256, file_name, by whom, traceparent (null: of no request that has one).
select f.merged_at, f.sha256, f.file_name, b.actor, f.traceparent
from drop_file f
join batch b on b.batch_id = f.batch_id
where f.status = 'merged' and f.merged_at > %(after)s::timestamptz and f.merged_at <= %(until)s::timestamptz and b.actor <> %(actor)s
order by f.merged_at
fetch first %(limit)s rows with ties  -- for the next are found by their moment
