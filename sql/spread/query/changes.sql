-- What was recorded from behind an event on: batches in the order in which they were committed, and of each batch one event an
-- entity, by entity_uid; as query/changes of one server. Each page looks at all that was recorded behind its place.
-- In: after_at, after_batch, after_part, after_uid (-infinity, 0, 0 and the nil uid: from the start), until (recorded_at of the last), limit,
-- with_entity.
-- Out: document, recorded_at, batch_id, part (the batch whose changes these are), entity_uid.
with parts as materialized (
    select b.recorded_at, b.batch_id, b.actor, b.source, coalesce(r.of_batch_id, b.batch_id) as part
    from batch b
    left join retraction r on r.batch_id = b.batch_id
    where (b.recorded_at, b.batch_id) >= (%(after_at)s::timestamptz, %(after_batch)s::bigint)
      and b.recorded_at <= %(until)s::timestamptz
      and coalesce(r.of_batch_id, b.batch_id) >= case when b.batch_id = %(after_batch)s then %(after_part)s::bigint else 0 end
),
named as materialized (
    select p.recorded_at, p.batch_id, p.actor, p.source, p.part, l.entity_uid, min(l.change_ts) as since,
           (array_agg(l.op order by l.change_ts desc, l.row_no desc))[1] as op
    from parts p
    join ledger l on l.batch_id = p.part
    where case when l.promoted_by is not null then l.promoted_by <= p.batch_id and p.part <> p.batch_id else true end
      and l.entity_uid > case when p.batch_id = %(after_batch)s and p.part = %(after_part)s then %(after_uid)s::uuid
                              else '00000000-0000-0000-0000-000000000000' end
    group by l.entity_uid, p.recorded_at, p.batch_id, p.actor, p.source, p.part
    order by p.recorded_at, p.batch_id, p.part, l.entity_uid
    limit %(limit)s
),
ended as materialized (
    select p.recorded_at, p.batch_id, p.actor, p.source, p.part, e.entity_uid, e.at as since, 'snapshot' as op
    from parts p
    join snapshot_effect e on e.batch_id = p.batch_id and e.of_batch_id = p.part
    where e.entity_uid > case when p.batch_id = %(after_batch)s and p.part = %(after_part)s then %(after_uid)s::uuid
                              else '00000000-0000-0000-0000-000000000000' end
    order by p.recorded_at, p.batch_id, p.part, e.entity_uid
    limit %(limit)s
),
keyed as materialized (  -- `named` has all that the ledger has of them, up to its last one: behind that there is a next page
    select distinct p.recorded_at, p.batch_id, p.actor, p.source, p.part, k.entity_uid, p.recorded_at as since, 'patch' as op
    from parts p
    join key_link k on k.batch_id = p.part
    where k.entity_uid > case when p.batch_id = %(after_batch)s and p.part = %(after_part)s then %(after_uid)s::uuid
                              else '00000000-0000-0000-0000-000000000000' end
      and (p.batch_id, p.part, k.entity_uid) not in (select n.batch_id, n.part, n.entity_uid from named n)
      and ((select count(*) from named) < %(limit)s
           or (p.recorded_at, p.batch_id, p.part, k.entity_uid)
              <= (select n.recorded_at, n.batch_id, n.part, n.entity_uid
                  from named n
                  order by n.recorded_at desc, n.batch_id desc, n.part desc, n.entity_uid desc
                  limit 1))
    order by p.recorded_at, p.batch_id, p.part, k.entity_uid
    limit %(limit)s
),
event as materialized (
    select recorded_at, batch_id, actor, part, entity_uid, min(since) as since,
           case when part = batch_id then (array_agg(op order by rank))[1] else source end as op
    from (
        select *, 1 as rank from named
        union all
        select *, 2 from ended
        union all
        select *, 3 from keyed
    ) told
    group by recorded_at, batch_id, actor, source, part, entity_uid
    order by recorded_at, batch_id, part, entity_uid
    limit %(limit)s
),
now as materialized (
    select e.entity_uid, entity_document(e.entity_uid, e.display_name, et.code, e.valid_from, e.valid_to, e.is_current, e.hashdiff, (
               select string_agg(
                          detail_document(dt.code, d.detail_value, d.valid_from, d.valid_to, d.is_current, d.hashdiff), ',' order by dt.code)
               from entity_detail d
               join detail_type dt on dt.detail_type_id = d.detail_type_id
               where d.entity_uid = e.entity_uid and d.is_current), coalesce(
               (select string_agg(k.member, ',' order by k.code) from keys_of_entity k where k.entity_uid = e.entity_uid), '')) as document
    from entity e
    join entity_type et on et.entity_type_id = e.entity_type_id
    where e.is_current and %(with_entity)s and e.entity_uid = any (array(select entity_uid from event))
)
select '{"entity_uid":"' || entity_uid || '","since":"' || utc(since) || '","batch_id":' || batch_id || ',"recorded_at":"' || utc(recorded_at)
       || '","op":"' || op || '","actor":' || to_json(actor)
       || case when %(with_entity)s then ',"entity":' || coalesce(now.document, 'null') else '' end || '}',
       recorded_at, batch_id, part, entity_uid
from event
left join now using (entity_uid)
order by recorded_at, batch_id, part, entity_uid
