-- Sample about `at_most` of the entities that a merged drop names, by taking its changes at regular distances.
-- In: sha256, at_most. Out: entity_uid.
select distinct l.entity_uid
from drop_file f
cross join lateral (
    select f.batch_id
    union
    select b.batch_id from batch b where b.drop_sha256 = f.sha256
) its
join ledger l on l.batch_id = its.batch_id
where f.sha256 = %(sha256)s and l.row_no %% greatest(1, f.rows_read / %(at_most)s) = 0
