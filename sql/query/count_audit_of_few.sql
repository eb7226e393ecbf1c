-- Counts what audit_of_few finds, from the changes, up to a number.
-- In: actor, from, to, batches, op, detail_type, entity_uid (null: any), at_most (null: all). Out: count.
select count(*)
from (
    select
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
      and (%(op)s::text is null or l.op collate "C" = %(op)s)
      and (%(detail_type)s::text is null
           or jsonb_path_query_array(l.details, '$.keyvalue().key') @> to_jsonb(%(detail_type)s::text))
      and (%(entity_uid)s::uuid is null or l.entity_uid = %(entity_uid)s)
    limit %(at_most)s
) counted
