-- Return the ledger of one entity in recording order, after a given change: who changed what, when it was recorded, from where, and
-- the state at its instant before and after it, as known when it was recorded.
-- In: entity_uid, after_batch and after_row (null: from the start), limit (null: all), offset. Out: document, batch_id, row_no.
select (select row_to_json(recorded)::text
        from (select l.entity_uid, utc(l.change_ts) as change_ts, utc(b.recorded_at) as recorded_at, l.op, b.actor,
                     origin_document(b.source, b.drop_sha256, f.file_name, l.row_no, b.request_id) as source,
                     (select row_to_json(said) from (select l.display_name, et.code as entity_type, l.details) said) as asserted,
                     recorded_state(l.entity_uid, l.change_ts, l.batch_id, l.row_no - 1) as before,
                     recorded_state(l.entity_uid, l.change_ts, l.batch_id, l.row_no) as after) recorded),
       l.batch_id, l.row_no
from (
    select *
    from ledger
    where entity_uid = %(entity_uid)s
      and (%(after_batch)s::bigint is null or (batch_id, row_no) > (%(after_batch)s::bigint, %(after_row)s::bigint))
    order by batch_id, row_no
    limit %(limit)s offset %(offset)s
) l
join batch b on b.batch_id = l.batch_id
left join drop_file f on f.sha256 = b.drop_sha256
left join entity_type et on et.entity_type_id = l.entity_type_id
order by l.batch_id, l.row_no
