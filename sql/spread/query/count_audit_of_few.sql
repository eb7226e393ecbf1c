-- Counts what audit_of_few finds, up to a number.
-- In: as audit_of_few, and at_most (null: all). Out: count.
with effect as materialized (select entity_uid, change_ts, batch_id, op, 0 as row_no from batch_effect where %(detail_type)s::text is null),
counted as materialized (
    select count(*) as number
    from ledger l
    join batch b on b.batch_id = l.batch_id
    where (%(actor)s::text is null or b.actor = %(actor)s)
      and (%(from)s::timestamptz is null or b.recorded_at >= %(from)s::timestamptz)
      and (%(to)s::timestamptz is null or b.recorded_at < %(to)s::timestamptz)
      and (%(batches)s::bigint[] is null or b.batch_id = any (%(batches)s::bigint[]))
      and (%(op)s::text is null or l.op collate "C" = %(op)s)
      and (%(entity_uid)s::uuid is null or l.entity_uid = %(entity_uid)s)
      and (%(detail_type)s::text is null
           or jsonb_path_query_array(l.details, '$.keyvalue().key') @> to_jsonb(%(detail_type)s::text))
)
select least(%(at_most)s::bigint, (select number from counted) + count(*))
from effect l
join batch b on b.batch_id = l.batch_id
where (%(actor)s::text is null or b.actor = %(actor)s)
      and (%(from)s::timestamptz is null or b.recorded_at >= %(from)s::timestamptz)
      and (%(to)s::timestamptz is null or b.recorded_at < %(to)s::timestamptz)
      and (%(batches)s::bigint[] is null or b.batch_id = any (%(batches)s::bigint[]))
      and (%(op)s::text is null or l.op collate "C" = %(op)s)
      and (%(entity_uid)s::uuid is null or l.entity_uid = %(entity_uid)s)
