-- Find the changes, at the instants that the batches name, that begin to act or act no more; see ledger_as_known.
-- In: batches, ledger, repeat, retraction. Out: affected_change.
insert into affected_change (entity_uid, change_ts, batch_id, row_no, acts, is_kept, of_batch_id, of_row_no)
select entity_uid, change_ts, batch_id, row_no, acts, is_kept, of_batch_id, of_row_no
from (
    select *, is_live and bool_or(is_news) over (partition by entity_uid, change_ts, batch_id order by row_no) as acts
    from (
        select *, is_live and (not is_repeat or batch_id = min(batch_id) filter (where is_live) over (
                      partition by entity_uid, change_ts, op, display_name, entity_type_id, details)) as is_news
        from (
            select l.entity_uid, l.change_ts, l.batch_id, l.row_no, l.op, l.display_name, l.entity_type_id, l.details,
                   l.acts as acted, l.promoted_by is not null as is_repeat, false as is_kept,
                   null::bigint as of_batch_id, null::integer as of_row_no,
                   l.batch_id not in (select of_batch_id from undone_batches('infinity')) as is_live
            from (
                select entity_uid, change_ts from ledger where batch_id = any (%(batches)s::bigint[])
                union
                select entity_uid, change_ts from repeat where batch_id = any (%(batches)s::bigint[])
            ) m
            join ledger l on l.entity_uid = m.entity_uid and l.change_ts = m.change_ts
            union all
            select r.entity_uid, r.change_ts, r.batch_id, r.row_no, l.op, l.display_name, l.entity_type_id, l.details,
                   false, true, true, r.of_batch_id, r.of_row_no,
                   r.batch_id not in (select of_batch_id from undone_batches('infinity'))
            from (
                select entity_uid, change_ts from ledger where batch_id = any (%(batches)s::bigint[])
                union
                select entity_uid, change_ts from repeat where batch_id = any (%(batches)s::bigint[])
            ) m
            join repeat r on r.entity_uid = m.entity_uid and r.change_ts = m.change_ts
            join ledger l on l.entity_uid = r.entity_uid and l.change_ts = r.change_ts
                and l.batch_id = r.of_batch_id and l.row_no = r.of_row_no
        ) said
    ) live
) found
where acts <> acted
