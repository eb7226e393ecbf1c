-- What was recorded since an instant about a time before what was known of the entity already: late facts, newest first.
-- In: since, limit. Out: entity_uid, display_name (now, or else as last known), change_ts, op, recorded_at, actor, source, file_name,
-- drop_sha256, line, request_id.
with recent as materialized (
    select b.batch_id, b.recorded_at, b.actor, b.source, b.drop_sha256, b.request_id, f.file_name
    from batch b
    left join drop_file f on f.sha256 = b.drop_sha256
    where b.recorded_at > %(since)s and (b.source = 'request' or f.rows_late > 0)
    order by b.recorded_at desc
    limit 2000
),
late as materialized (
    select l.entity_uid, l.change_ts, l.op, l.row_no, l.batch_id
    from ledger l
    join batch b on b.batch_id = l.batch_id
    where l.batch_id = any (array(select batch_id from recent)) and l.acts
      and exists (
          select from ledger known
          where known.entity_uid = l.entity_uid and known.change_ts > l.change_ts and known.batch_id < l.batch_id and known.acts)
    order by b.recorded_at desc, b.batch_id desc, l.row_no
    limit %(limit)s
)
select l.entity_uid, named.display_name, l.change_ts, l.op, r.recorded_at, r.actor, r.source, r.file_name, r.drop_sha256, l.row_no, r.request_id
from late l
join recent r on r.batch_id = l.batch_id
join (
    select distinct on (entity_uid) entity_uid, display_name
    from entity
    where entity_uid = any (array(select entity_uid from late))
    order by entity_uid, valid_from desc
) named on named.entity_uid = l.entity_uid
order by r.recorded_at desc, r.batch_id desc, l.row_no
