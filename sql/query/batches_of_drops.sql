-- The batches of the drops that a text names, by the SHA-256, or by the name of the file under which it first came; and those by which
-- these were undone or reinstated.
-- In: name. Out: batch_id.
with of_drop as (
    select b.batch_id
    from drop_file f
    join batch b on b.drop_sha256 = f.sha256
    where f.sha256 = lower(%(name)s) or f.file_name = %(name)s
)
select batch_id from of_drop
union
select r.batch_id from retraction r join of_drop on of_drop.batch_id = r.of_batch_id
