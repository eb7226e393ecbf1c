-- Finds the changes of one entity in recording order, from behind one.
-- In: entity_uid, after_batch and after_row (null: from the start), limit (null: all), offset. Out: entity_uid, change_ts,
-- batch_id, row_no.
select entity_uid, change_ts, batch_id, row_no
from ledger
where entity_uid = %(entity_uid)s
  and (%(after_batch)s::bigint is null or (batch_id, row_no) > (%(after_batch)s::bigint, %(after_row)s::bigint))
order by batch_id, row_no
limit %(limit)s offset %(offset)s
