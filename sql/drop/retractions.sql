-- Find undos and reinstatements of drops, in the order in which they were recorded, from behind one; one row for each drop.
-- In: after_at, after_batch (-infinity and 0: from the start), until (the last moment; infinity: no bound), limit.
-- Out: recorded_at, batch_id, kind, actor, reason, sha256, file_name.
select b.recorded_at, b.batch_id, b.source, b.actor, min(r.reason), f.sha256, f.file_name
from batch b
join retraction r on r.batch_id = b.batch_id
join batch o on o.batch_id = r.of_batch_id
join drop_file f on f.sha256 = o.drop_sha256
where b.source in ('undo', 'reinstate') and (b.recorded_at, b.batch_id) > (%(after_at)s::timestamptz, %(after_batch)s::bigint)
  and b.recorded_at <= %(until)s::timestamptz
group by b.recorded_at, b.batch_id, b.source, b.actor, f.sha256, f.file_name
order by b.recorded_at, b.batch_id
limit %(limit)s
