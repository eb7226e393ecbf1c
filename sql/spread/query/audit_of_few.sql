-- Finds what audit_of_all finds, from the changes themselves and not from the batches.
-- In and out: as audit_of_all.
with changed as materialized (
    select l.entity_uid, l.change_ts, l.batch_id, l.row_no, b.recorded_at
    from ledger l
    join batch b on b.batch_id = l.batch_id
    where (%(actor)s::text is null or b.actor = %(actor)s)
      and (%(from)s::timestamptz is null or b.recorded_at >= %(from)s::timestamptz)
      and (%(to)s::timestamptz is null or b.recorded_at < %(to)s::timestamptz)
      and (%(batches)s::bigint[] is null or b.batch_id = any (%(batches)s::bigint[]))
      and (%(op)s::text is null or l.op collate "C" = %(op)s)
      and (%(entity_uid)s::uuid is null or l.entity_uid = %(entity_uid)s)
      and (%(after_at)s::timestamptz is null
           or (b.recorded_at, b.batch_id, l.entity_uid, l.row_no)
              < (%(after_at)s::timestamptz, %(after_batch)s::bigint, %(after_uid)s::uuid, %(after_row)s::integer))
      and (%(detail_type)s::text is null
           or jsonb_path_query_array(l.details, '$.keyvalue().key') @> to_jsonb(%(detail_type)s::text))
    order by b.recorded_at desc, b.batch_id desc, l.entity_uid desc, l.row_no desc
    limit %(limit)s::bigint + %(offset)s::bigint
),
effect as materialized (select entity_uid, change_ts, batch_id, op, 0 as row_no from batch_effect where %(detail_type)s::text is null)
select * from (
    select * from changed
    union all
    select l.entity_uid, l.change_ts, l.batch_id, l.row_no, b.recorded_at
    from effect l
    join batch b on b.batch_id = l.batch_id
    where (%(actor)s::text is null or b.actor = %(actor)s)
      and (%(from)s::timestamptz is null or b.recorded_at >= %(from)s::timestamptz)
      and (%(to)s::timestamptz is null or b.recorded_at < %(to)s::timestamptz)
      and (%(batches)s::bigint[] is null or b.batch_id = any (%(batches)s::bigint[]))
      and (%(op)s::text is null or l.op collate "C" = %(op)s)
      and (%(entity_uid)s::uuid is null or l.entity_uid = %(entity_uid)s)
      and (%(after_at)s::timestamptz is null
           or (b.recorded_at, b.batch_id, l.entity_uid, l.row_no)
              < (%(after_at)s::timestamptz, %(after_batch)s::bigint, %(after_uid)s::uuid, %(after_row)s::integer))
) found
order by recorded_at desc, batch_id desc, entity_uid desc, row_no desc
limit %(limit)s offset %(offset)s
