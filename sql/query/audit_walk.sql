-- All that was recorded of some entities up to an entry of each, in recording order: from it the states before and after follow.
-- In: entity_uids, batch_ids and row_nos (of the last entry of each), starts (null: from the first instant, see audit_start).
-- Out: entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type, details, promoted_by (the batch since when a repeat
-- stands in the place of another), of_batches (that an undo or a reinstatement is about), scope (types: of a snapshot that does not
-- list the entity), source_id (whose row it is, or whose entities a snapshot is of). The op `name` is of a row that was a repeat; it is
-- there if there are snapshots of sources.
select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type, details, promoted_by, of_batches, scope, source_id
from (
    select l.entity_uid, l.change_ts, l.batch_id, l.row_no, l.op, l.display_name, et.code as entity_type, l.details, l.promoted_by,
           null::bigint[] as of_batches, null::text[] as scope, l.source_id
    from unnest(%(entity_uids)s::uuid[], %(batch_ids)s::bigint[], %(row_nos)s::integer[], %(starts)s::timestamptz[])
        as last (entity_uid, batch_id, row_no, start)
    join ledger l on l.entity_uid = last.entity_uid and (l.batch_id + 0, l.row_no) <= (last.batch_id, last.row_no)
        and l.change_ts >= coalesce(last.start, '-infinity')
    left join entity_type et on et.entity_type_id = l.entity_type_id
    union all
    select last.entity_uid, null, r.batch_id, 0, case when r.is_reinstated then 'reinstate' else 'undo' end, null, null, null, null,
           array_agg(r.of_batch_id), null, null
    from unnest(%(entity_uids)s::uuid[], %(batch_ids)s::bigint[], %(row_nos)s::integer[]) as last (entity_uid, batch_id, row_no)
    join retraction r on r.batch_id <= last.batch_id
    where exists (select from ledger l where l.batch_id = r.of_batch_id and l.entity_uid = last.entity_uid)
       or exists (select from repeat l where l.batch_id = r.of_batch_id and l.entity_uid = last.entity_uid)
       or exists (select from snapshot s where s.batch_id = r.of_batch_id)
    group by last.entity_uid, r.batch_id, r.is_reinstated
    union all
    select last.entity_uid, s.at, s.batch_id, 0, 'snapshot', null, null, null, null, null,
           array(select et.code from entity_type et where et.entity_type_id = any (s.entity_type_ids)), s.source_id
    from unnest(%(entity_uids)s::uuid[], %(batch_ids)s::bigint[], %(starts)s::timestamptz[]) as last (entity_uid, batch_id, start)
    join snapshot s on s.batch_id <= last.batch_id and s.at >= coalesce(last.start, '-infinity')
    where (select true from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = last.entity_uid limit 1) is null
    union all
    select last.entity_uid, n.change_ts, n.batch_id, 0, 'name', null, null, null, null, null, null, n.source_id
    from unnest(%(entity_uids)s::uuid[], %(batch_ids)s::bigint[], %(row_nos)s::integer[]) as last (entity_uid, batch_id, row_no)
    cross join lateral (
        select l.change_ts, l.batch_id, l.source_id from ledger l where l.entity_uid = last.entity_uid and l.promoted_by is not null
        union all
        select l.change_ts, l.batch_id, l.source_id from repeat l where l.entity_uid = last.entity_uid
    ) n
    where n.batch_id <= last.batch_id and n.source_id is not null and exists (select from snapshot where source_id is not null)
) entry
order by batch_id, row_no
