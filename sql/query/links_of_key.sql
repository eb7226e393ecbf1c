-- Return the links of a key of a source, as they were recorded, the last first.
-- In: key_uid, limit. Out: document.
select row_to_json(link)::text
from (
    select utc(b.recorded_at) as recorded_at, b.actor, k.entity_uid, k.reason, k.batch_id,
           origin_document(b.source, b.drop_sha256, f.file_name, k.row_no, b.request_id) as source,
           k.batch_id in (select u.of_batch_id from undone_batches('infinity') u) as is_undone
    from key_link k
    join batch b on b.batch_id = k.batch_id
    left join drop_file f on f.sha256 = b.drop_sha256
    where k.key_uid = %(key_uid)s
    order by k.batch_id desc
    limit %(limit)s
) link
