-- The batches that last recorded something of one entity that may concern a field, the newest first; with how many changes of
-- the entity there are.
-- In: entity_uid, field, limit. Out: recorded_at, actor, source, sha256, file_name, line (the first), request_id, changes.
select b.recorded_at, b.actor, b.source, b.drop_sha256, d.file_name, l.row_no, b.request_id, sum(l.changes) over ()::bigint
from (
    select batch_id, count(*) as changes,
           min(row_no) filter (where op <> 'patch' or details ? substr(%(field)s, 9)
                                     or said_of_field(%(field)s, display_name, entity_type_id, null) is not null) as row_no
    from ledger
    where entity_uid = %(entity_uid)s
    group by batch_id
) l
join batch b on b.batch_id = l.batch_id
left join drop_file d on d.sha256 = b.drop_sha256
where l.row_no is not null
order by b.recorded_at desc
limit %(limit)s
