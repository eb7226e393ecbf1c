-- Finds what audit_of_all finds, from the changes themselves and not from the batches: for filters that few changes pass.
-- In and out: as audit_of_all.
with found as materialized (  -- before it is ordered: in the order of the batches, each of them would be compared with each change
    select l.entity_uid, l.change_ts, l.batch_id, l.row_no, b.recorded_at
    from (
        select entity_uid, change_ts, batch_id, row_no, op, details
        from ledger
        where batch_id > 0  -- always: the condition of an index
        union all
        select entity_uid, change_ts, batch_id, 0, op, null
        from batch_effect
        where %(detail_type)s::text is null
    ) l
    join batch b on b.batch_id = l.batch_id
    where (%(actor)s::text is null or b.actor = %(actor)s)
      and (%(from)s::timestamptz is null or b.recorded_at >= %(from)s::timestamptz)
      and (%(to)s::timestamptz is null or b.recorded_at < %(to)s::timestamptz)
      and (%(batches)s::bigint[] is null or b.batch_id = any (%(batches)s::bigint[]))
      and (%(after_at)s::timestamptz is null
           or (b.recorded_at, b.batch_id, l.entity_uid, l.row_no)
              < (%(after_at)s::timestamptz, %(after_batch)s::bigint, %(after_uid)s::uuid, %(after_row)s::integer))
      and (%(op)s::text is null or l.op collate "C" = %(op)s)
      and (%(detail_type)s::text is null
           or jsonb_path_query_array(l.details, '$.keyvalue().key') @> to_jsonb(%(detail_type)s::text))
      and (%(entity_uid)s::uuid is null or l.entity_uid = %(entity_uid)s)
)
select entity_uid, change_ts, batch_id, row_no, recorded_at
from found
order by recorded_at desc, batch_id desc, entity_uid desc, row_no desc
limit %(limit)s offset %(offset)s
