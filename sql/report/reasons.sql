-- Count the rejected rows of drops by reason; a row with several reasons counts for each.
-- In: sha256s. Out: sha256, reason, rows, most frequent first.
select drop_sha256, reason, count(*)
from reject
cross join lateral unnest(reasons) as given (reason)
where drop_sha256 = any (%(sha256s)s::text[])
group by drop_sha256, reason
order by count(*) desc, reason
