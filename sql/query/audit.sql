-- Find what was recorded of one entity in recording order, from behind an entry: changes, and what batches did to it that do not name it
-- (row_no 0, at the earliest instant that they touch; see batch_effect).
-- In: entity_uid, after_batch and after_row (null: from the start), limit (null: all), offset. Out: entity_uid, change_ts,
-- batch_id, row_no.
select entity_uid, change_ts, batch_id, row_no
from (
    select entity_uid, change_ts, batch_id, row_no
    from ledger
    where entity_uid = %(entity_uid)s
    union all
    select entity_uid, change_ts, batch_id, 0
    from batch_effect
    where entity_uid = %(entity_uid)s
) entry
where %(after_batch)s::bigint is null or (batch_id, row_no) > (%(after_batch)s::bigint, %(after_row)s::bigint)
order by batch_id, row_no
limit %(limit)s offset %(offset)s
