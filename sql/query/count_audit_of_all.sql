-- Counts what audit_of_all finds, from the batches, up to a number.
-- In: actor, from, to, batches, op, detail_type, entity_uid (null: any), at_most (null: all). Out: count.
select count(*)
from (
    select
    from batch b
    cross join lateral (
        (select
        from ledger
        where batch_id = b.batch_id
          and (%(op)s::text is null or op = %(op)s)
          and (%(detail_type)s::text is null or details ? %(detail_type)s)
          and (%(entity_uid)s::uuid is null or entity_uid = %(entity_uid)s)
        limit %(at_most)s)
        union all
        (select
        from batch_effect
        where batch_id = b.batch_id
          and %(detail_type)s::text is null
          and (%(op)s::text is null or op = %(op)s)
          and (%(entity_uid)s::uuid is null or entity_uid = %(entity_uid)s)
        limit %(at_most)s)
    ) l
    where (%(actor)s::text is null or b.actor = %(actor)s)
      and (%(from)s::timestamptz is null or b.recorded_at >= %(from)s::timestamptz)
      and (%(to)s::timestamptz is null or b.recorded_at < %(to)s::timestamptz)
      and (%(batches)s::bigint[] is null or b.batch_id = any (%(batches)s::bigint[]))
    limit %(at_most)s
) counted
