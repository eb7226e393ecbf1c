-- What was recorded of one entity in recording order, from behind an entry: who changed what, when it was recorded, from where, and
-- the state at its instant before and after it, as it was when it was recorded. An undo or reinstatement is an entry too.
-- In: entity_uid, after_batch and after_row (null: from the start), limit (null: all), offset. Out: document, batch_id, row_no.
select (select row_to_json(recorded)::text
        from (select l.entity_uid, utc(l.change_ts) as change_ts, utc(b.recorded_at) as recorded_at, l.op, b.actor,
                     origin_document(b.source, b.drop_sha256, f.file_name, l.row_no, b.request_id) as source,
                     (select row_to_json(said) from (select l.display_name, et.code as entity_type, l.details) said) as asserted,
                     recorded_state(l.entity_uid, l.change_ts, l.batch_id, l.row_no - 1,
                                    case when l.row_no = 0 then b.recorded_at - interval '1 microsecond' else b.recorded_at end) as before,
                     recorded_state(l.entity_uid, l.change_ts, l.batch_id, l.row_no, b.recorded_at) as after,
                     l.acts, l.reason) recorded),
       l.batch_id, l.row_no
from (
    select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details, acts, reason
    from (
        select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details, acts, null::text as reason
        from ledger
        where entity_uid = %(entity_uid)s
        union all
        select %(entity_uid)s, min(l.change_ts), r.batch_id, 0, case when r.is_reinstated then 'reinstate' else 'undo' end,
               null, null, null, true, r.reason
        from ledger l
        join retraction r on r.of_batch_id = l.batch_id
        where l.entity_uid = %(entity_uid)s
        group by r.batch_id, r.is_reinstated, r.reason
    ) entry
    where %(after_batch)s::bigint is null or (batch_id, row_no) > (%(after_batch)s::bigint, %(after_row)s::bigint)
    order by batch_id, row_no
    limit %(limit)s offset %(offset)s
) l
join batch b on b.batch_id = l.batch_id
left join drop_file f on f.sha256 = b.drop_sha256
left join entity_type et on et.entity_type_id = l.entity_type_id
order by l.batch_id, l.row_no
