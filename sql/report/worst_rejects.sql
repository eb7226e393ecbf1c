-- Return the worst rejects of each drop: those with the most faults first, then by line.
-- In: sha256s, limit for each drop, characters of a row. Out: sha256, line, reasons, the beginning of the row.
select drop_sha256, line, reasons, left(raw, %(characters)s::integer)
from unnest(%(sha256s)s::text[]) as named (sha256)
cross join lateral (
    select * from reject where drop_sha256 = named.sha256 order by cardinality(reasons) desc, line limit %(limit)s
) worst
