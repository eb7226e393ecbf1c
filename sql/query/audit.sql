-- Find what was recorded of one entity in recording order, from behind an entry: changes, and undos and reinstatements of batches
-- that name it (row_no 0, at the earliest instant that they touch).
-- In: entity_uid, after_batch and after_row (null: from the start), limit (null: all), offset. Out: entity_uid, change_ts,
-- batch_id, row_no.
select entity_uid, change_ts, batch_id, row_no
from (
    select entity_uid, change_ts, batch_id, row_no
    from ledger
    where entity_uid = %(entity_uid)s
    union all
    select l.entity_uid, min(l.change_ts), r.batch_id, 0
    from ledger l
    join retraction r on r.of_batch_id = l.batch_id
    where l.entity_uid = %(entity_uid)s
    group by l.entity_uid, r.batch_id
) entry
where %(after_batch)s::bigint is null or (batch_id, row_no) > (%(after_batch)s::bigint, %(after_row)s::bigint)
order by batch_id, row_no
limit %(limit)s offset %(offset)s
