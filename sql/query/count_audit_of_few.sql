-- Counts what audit_of_few finds, from the changes, up to a number.
-- In: actor, from, to, drops, op, detail_type, entity_uid (null: any), at_most (null: all). Out: count.
select count(*)
from (
    select
    from (
        select entity_uid, change_ts, batch_id, row_no, op, details
        from ledger
        where batch_id > 0  -- always: the condition of an index
        union all
        select l.entity_uid, min(l.change_ts), r.batch_id, 0, case when r.is_reinstated then 'reinstate' else 'undo' end, null
        from retraction r
        join ledger l on l.batch_id = r.of_batch_id
        where %(detail_type)s::text is null
        group by l.entity_uid, r.batch_id, r.is_reinstated
    ) l
    join batch b on b.batch_id = l.batch_id
    where (%(actor)s::text is null or b.actor = %(actor)s)
      and (%(from)s::timestamptz is null or b.recorded_at >= %(from)s::timestamptz)
      and (%(to)s::timestamptz is null or b.recorded_at < %(to)s::timestamptz)
      and (%(drops)s::text[] is null or b.drop_sha256 = any (%(drops)s::text[]))
      and (%(op)s::text is null or l.op = %(op)s)
      and (%(detail_type)s::text is null
           or jsonb_path_query_array(l.details, '$.keyvalue().key') @> to_jsonb(%(detail_type)s::text))
      and (%(entity_uid)s::uuid is null or l.entity_uid = %(entity_uid)s)
    limit %(at_most)s
) counted
