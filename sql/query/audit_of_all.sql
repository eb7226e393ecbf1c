-- Find the changes of all entities, and what batches did to entities that they do not name (row_no 0, see batch_effect), the newest
-- batch first and within one by entity_uid, from behind one. It walks the batches, and of each reads no more than the page needs, so a page costs the same however much there is: for filters that many changes pass.
-- In: actor, from (recorded from then on), to (recorded before), batches, op, detail_type, entity_uid (null: any);
-- after_at, after_batch, after_uid and after_row (null: from the start), limit (null: all), offset.
-- Out: entity_uid, change_ts, batch_id, row_no, recorded_at.
select l.entity_uid, l.change_ts, l.batch_id, l.row_no, b.recorded_at
from (
    select batch_id, recorded_at, source
    from batch
    where (%(actor)s::text is null or actor = %(actor)s)
      and (%(from)s::timestamptz is null or recorded_at >= %(from)s::timestamptz)
      and (%(to)s::timestamptz is null or recorded_at < %(to)s::timestamptz)
      and (%(batches)s::bigint[] is null or batch_id = any (%(batches)s::bigint[]))
      and (%(after_at)s::timestamptz is null
           or (recorded_at, batch_id) <= (%(after_at)s::timestamptz, %(after_batch)s::bigint))
    order by recorded_at desc, batch_id desc
) b
cross join lateral (
    (select entity_uid, change_ts, batch_id, row_no
    from ledger
    where batch_id = b.batch_id
      and (%(after_at)s::timestamptz is null
           or batch_id <> %(after_batch)s::bigint
           or (entity_uid, row_no) < (%(after_uid)s::uuid, %(after_row)s::integer))
      and entity_uid <= case when batch_id = %(after_batch)s::bigint then %(after_uid)s::uuid
                             else 'ffffffff-ffff-ffff-ffff-ffffffffffff' end
      and (%(op)s::text is null or op = %(op)s)
      and (%(detail_type)s::text is null or details ? %(detail_type)s)
      and (%(entity_uid)s::uuid is null or entity_uid = %(entity_uid)s)
    order by entity_uid desc, row_no desc
    limit %(limit)s::bigint + %(offset)s::bigint)
    union all
    (select entity_uid, min(change_ts), b.batch_id, 0
    from (
        select l.entity_uid, l.change_ts
        from retraction r
        cross join lateral (
            select entity_uid, min(change_ts) as change_ts
            from ledger
            where batch_id = r.of_batch_id
              and entity_uid < case when b.batch_id = %(after_batch)s::bigint then %(after_uid)s::uuid
                                    else 'ffffffff-ffff-ffff-ffff-ffffffffffff' end
              and (%(entity_uid)s::uuid is null or entity_uid = %(entity_uid)s)
            group by entity_uid
            order by entity_uid desc
            limit %(limit)s::bigint + %(offset)s::bigint
        ) l
        where r.batch_id = b.batch_id
        union all
        (select e.entity_uid, e.at
        from snapshot_effect e
        where e.batch_id = b.batch_id
          and e.entity_uid < case when b.batch_id = %(after_batch)s::bigint then %(after_uid)s::uuid
                                  else 'ffffffff-ffff-ffff-ffff-ffffffffffff' end
          and (%(entity_uid)s::uuid is null or e.entity_uid = %(entity_uid)s)
        order by e.entity_uid desc
        limit %(limit)s::bigint + %(offset)s::bigint)
    ) touched
    where %(detail_type)s::text is null
      and (%(op)s::text is null or %(op)s = case b.source when 'drop' then 'snapshot' else b.source end)
    group by entity_uid
    order by entity_uid desc
    limit %(limit)s::bigint + %(offset)s::bigint)
) l
order by b.recorded_at desc, b.batch_id desc, l.entity_uid desc, l.row_no desc
limit %(limit)s offset %(offset)s
