-- What was recorded from behind an event on: batches in the order in which they were committed, and of each batch one event an
-- entity, by entity_uid; `since` is the earliest change_ts, `op` what the change said that is last in the order of truth. There are events
-- of the entities too that a snapshot ended by it (op snapshot), and of those to which a row gave a key though it was a repeat (op patch).
-- A batch that undoes others, or reinstates them, has the events of those, one after the other.
-- In: after_at, after_batch, after_part, after_uid (-infinity, 0, 0 and the nil uid: from the start), until (recorded_at of the last), limit,
-- with_entity.
-- Out: document, recorded_at, batch_id, part (the batch whose changes these are), entity_uid.
select '{"entity_uid":"' || entity_uid || '","since":"' || utc(since) || '","batch_id":' || batch_id || ',"recorded_at":"' || utc(recorded_at)
       || '","op":"' || op || '","actor":' || to_json(actor)
       || case when %(with_entity)s then ',"entity":' || coalesce(document_at(entity_uid, 'infinity'), 'null') else '' end || '}',
       recorded_at, batch_id, part, entity_uid
from (
    select b.recorded_at, b.batch_id, b.actor, parts.part, named.entity_uid, named.since,
           case when parts.part = b.batch_id then named.op else b.source end as op
    from batch b
    cross join lateral (
        select b.batch_id as part
        where b.source not in ('undo', 'reinstate')
        union all
        select r.of_batch_id from retraction r where r.batch_id = b.batch_id
    ) parts
    cross join lateral (
        with said as (
            select l.entity_uid, min(l.change_ts) as since, (array_agg(l.op order by l.change_ts desc, l.row_no desc))[1] as op
            from ledger l
            where l.batch_id = parts.part
              and case when l.promoted_by is not null then l.promoted_by <= b.batch_id and parts.part <> b.batch_id else true end
              and l.entity_uid > case when b.batch_id = %(after_batch)s and parts.part = %(after_part)s then %(after_uid)s::uuid
                                      else '00000000-0000-0000-0000-000000000000' end
            group by l.entity_uid
            order by l.entity_uid
            limit %(limit)s
        )
        select entity_uid, min(since) as since, (array_agg(op order by rank))[1] as op
        from (
            select entity_uid, since, op, 1 as rank from said
            union all
            (select e.entity_uid, e.at, 'snapshot', 2
             from snapshot_effect e
             where e.batch_id = b.batch_id and e.of_batch_id = parts.part
               and e.entity_uid > case when b.batch_id = %(after_batch)s and parts.part = %(after_part)s then %(after_uid)s::uuid
                                       else '00000000-0000-0000-0000-000000000000' end
             order by e.entity_uid
             limit %(limit)s)
            union all  -- of keys that rows gave to an entity though they were repeats, no farther than what was said, for pages
            (select distinct k.entity_uid, b.recorded_at, 'patch', 3
             from key_link k
             where k.batch_id = parts.part
               and not exists (
                   select from ledger l
                   where l.batch_id = parts.part and l.entity_uid = k.entity_uid
                     and case when l.promoted_by is not null then l.promoted_by <= b.batch_id and parts.part <> b.batch_id else true end)
               and k.entity_uid > case when b.batch_id = %(after_batch)s and parts.part = %(after_part)s then %(after_uid)s::uuid
                                       else '00000000-0000-0000-0000-000000000000' end
               and k.entity_uid <= coalesce((select entity_uid from said order by entity_uid offset %(limit)s - 1 limit 1),
                                            'ffffffff-ffff-ffff-ffff-ffffffffffff')
             order by k.entity_uid
             limit %(limit)s)
        ) told
        group by entity_uid
    ) named
    where (b.recorded_at, b.batch_id) >= (%(after_at)s::timestamptz, %(after_batch)s::bigint)
      and b.recorded_at <= %(until)s::timestamptz
      and parts.part >= case when b.batch_id = %(after_batch)s then %(after_part)s::bigint else 0 end
    order by b.recorded_at, b.batch_id, parts.part, named.entity_uid
    limit %(limit)s
) event
order by recorded_at, batch_id, part, entity_uid
