-- Return the changes that a change of these batches superseded at the same instant: the first of each batch, by its lines.
-- In: batch_ids, limit of each batch. Out: sha256, entity_uid, change_ts, the source, file and line of the superseded change, and
-- the line of the batch that superseded it when the batch was recorded.
with named as materialized (
    select entity_uid, change_ts, batch_id, (before)[1] as was_batch_id, (before)[2] as line, last_line,
           row_number() over (partition by batch_id order by row_no) as number
    from (
        select entity_uid, change_ts, batch_id, row_no, acts,
               lag(case when acts then array[batch_id, row_no] end) over (partition by entity_uid, change_ts order by acts, batch_id, row_no)
                   as before,
               max(row_no) over (partition by entity_uid, change_ts, batch_id) as last_line
        from ledger
        where entity_uid in (select l.entity_uid from ledger l where l.batch_id = any (%(batch_ids)s::bigint[]))
    ) placed
    where acts and batch_id = any (%(batch_ids)s::bigint[]) and before is not null
)
select by.drop_sha256, entity_uid, change_ts, was.source, file_name, line, last_line
from named
join batch by on by.batch_id = named.batch_id
join batch was on was.batch_id = named.was_batch_id
left join drop_file f on f.sha256 = was.drop_sha256
where number <= %(limit)s
order by named.batch_id, number
