-- Some entries as an audit shows them, but for the states before and after: who recorded what, when it was recorded, from where.
-- In: entity_uids, instants, batch_ids, row_nos (entry by entry, in the order to answer in; row_no 0: see batch_effect).
-- Out: document, entity_uid, batch_id, row_no.
select document, entity_uid, batch_id, row_no
from (
    select (select left(row_to_json(recorded)::text, -1) || coalesce(linked.members, '') || coalesce(approved.member, '') || '}'
            from (select l.entity_uid, utc(l.change_ts) as change_ts, utc(b.recorded_at) as recorded_at, l.op, b.actor,
                         origin_document(b.source, b.drop_sha256, f.file_name, l.row_no, b.request_id) as source,
                         (select row_to_json(said)
                          from (select l.display_name, et.code as entity_type, (
                                    select ('{' || coalesce(string_agg(to_json(key)::text || ':' || value::text, ','), '') || '}')::json
                                    from jsonb_each(l.details)
                                    having l.details is not null  -- without spaces, as everything else is written
                                ) as details) said) as asserted) recorded) as document,
           l.entity_uid, l.batch_id, l.row_no, page.place
    from unnest(%(entity_uids)s::uuid[], %(instants)s::timestamptz[], %(batch_ids)s::bigint[], %(row_nos)s::integer[])
        with ordinality as page (entity_uid, change_ts, batch_id, row_no, place)
    join ledger l on l.entity_uid = page.entity_uid and l.change_ts = page.change_ts
        and l.batch_id + 0 = page.batch_id and l.row_no + 0 = page.row_no  -- found by the key's beginning: a batch may have very many of them
    join batch b on b.batch_id = l.batch_id
    left join drop_file f on f.sha256 = b.drop_sha256
    left join entity_type et on et.entity_type_id = l.entity_type_id
    cross join lateral (  -- keys that the change gave to an entity, or took from it
        select ',"links":[' || string_agg((
                   select row_to_json(link)::text from (select s.code as source, k.source_key, kl.entity_uid) link), ',')
                   || '],"reason":' || to_json(min(kl.reason)) as members
        from key_link kl
        join source_key k on k.key_uid = kl.key_uid
        join source s on s.source_id = k.source_id
        where kl.batch_id = l.batch_id and kl.row_no = case b.source when 'request' then 1 else l.row_no end
    ) linked
    left join lateral (
        select ',"approval":' || row_to_json(a)::text as member from (select sent_by, reason from approval where batch_id = b.batch_id) a
    ) approved on true
    union all
    select (select left(row_to_json(recorded)::text, -1) || coalesce(approved.member, '') || '}'
            from (select page.entity_uid, utc(page.change_ts) as change_ts, utc(b.recorded_at) as recorded_at,
                         case b.source when 'drop' then 'snapshot' else b.source end as op, b.actor,
                         origin_document(b.source, b.drop_sha256, f.file_name, 0, b.request_id) as source,
                         (select row_to_json(said)
                          from (select null as display_name, null as entity_type, null as details) said) as asserted,
                         (select min(r.reason) from retraction r where r.batch_id = b.batch_id) as reason,
                         (select origin_document(o.source, o.drop_sha256, g.file_name, 0, o.request_id)
                          from retraction r
                          join batch o on o.batch_id = r.of_batch_id  -- all of one drop, or one of a request
                          left join drop_file g on g.sha256 = o.drop_sha256
                          where r.batch_id = b.batch_id
                          limit 1) as undone) recorded),
           page.entity_uid, b.batch_id, page.row_no, page.place
    from unnest(%(entity_uids)s::uuid[], %(instants)s::timestamptz[], %(batch_ids)s::bigint[], %(row_nos)s::integer[])
        with ordinality as page (entity_uid, change_ts, batch_id, row_no, place)
    join batch b on b.batch_id = page.batch_id
    left join drop_file f on f.sha256 = b.drop_sha256
    left join lateral (
        select ',"approval":' || row_to_json(a)::text as member from (select sent_by, reason from approval where batch_id = b.batch_id) a
    ) approved on true
    where page.row_no = 0
) entry
order by place
