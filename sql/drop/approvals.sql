-- Find held drops that were approved, in the order of the approvals, from behind an instant.
-- In: after (-infinity: from the start), limit. Out: decided_at, sha256, file_name.
select h.decided_at, f.sha256, f.file_name
from held_drop h
join drop_file f on f.sha256 = h.drop_sha256
where h.decision = 'approved' and h.decided_at > %(after)s::timestamptz
order by h.decided_at
limit %(limit)s
