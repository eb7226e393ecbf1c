-- The batches that last recorded something of one entity that may concern a field, or undid or reinstated it, or ended it as a snapshot,
-- the newest first; with how many changes of the entity there are.
-- In: entity_uid, field, limit. Out: recorded_at, actor, source, sha256, file_name, line (the first), request_id, changes.
with said as (
    select batch_id, row_no, op <> 'patch' or details ? substr(%(field)s, 9)
                             or said_of_field(%(field)s, display_name, entity_type_id, null) is not null as is_about_it
    from ledger
    where entity_uid = %(entity_uid)s
),
recording as (
    select batch_id, min(row_no) as row_no from said where is_about_it group by batch_id
    union all
    (select r.batch_id, null::integer
     from retraction r
     where r.of_batch_id in (select batch_id from said where is_about_it)
     union
     select batch_id, null from snapshot_effect where entity_uid = %(entity_uid)s)
)
select b.recorded_at, b.actor, b.source, b.drop_sha256, d.file_name, l.row_no, b.request_id, (select count(*) from said)
from recording l
join batch b on b.batch_id = l.batch_id
left join drop_file d on d.sha256 = b.drop_sha256
order by b.recorded_at desc
limit %(limit)s
