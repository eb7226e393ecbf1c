-- The batches that a drop recorded, and by which batch each was last undone.
-- In: sha256. Out: batch_id, undone_by (null: it acts).
select b.batch_id, (
           select r.batch_id from retraction r
           where r.of_batch_id = b.batch_id and b.batch_id in (select of_batch_id from undone_batches('infinity'))
           order by r.batch_id desc
           limit 1)
from batch b
where b.drop_sha256 = %(sha256)s
order by b.batch_id
