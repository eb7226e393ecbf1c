-- Return the changes that a change of these batches superseded at the same instant: the first of each batch, by its lines.
-- In: batch_ids, limit of each batch. Out: sha256, entity_uid, change_ts, the source, file and line of the superseded change, and
-- the line of the batch that superseded it when the batch was recorded.
select by.drop_sha256, entity_uid, change_ts, was.source, file_name, line, (
           select max(row_no) from ledger last
           where last.entity_uid = named.entity_uid and last.change_ts = named.change_ts and last.batch_id = named.batch_id)
from (
    select l.batch_id, l.entity_uid, l.change_ts, was.batch_id as was_batch_id, was.row_no as line,
           row_number() over (partition by l.batch_id order by l.row_no) as number
    from ledger l
    cross join lateral (
        select before.batch_id, before.row_no
        from ledger before
        where before.entity_uid = l.entity_uid and before.change_ts = l.change_ts and before.acts
          and (before.batch_id, before.row_no) < (l.batch_id, l.row_no)
        order by before.batch_id desc, before.row_no desc
        limit 1
    ) was
    where l.batch_id = any (%(batch_ids)s::bigint[]) and l.acts
) named
join batch by on by.batch_id = named.batch_id
join batch was on was.batch_id = named.was_batch_id
left join drop_file f on f.sha256 = was.drop_sha256
where number <= %(limit)s
order by named.batch_id, number
