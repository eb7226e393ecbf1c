-- Sample about `at_most` of the entities that a merged drop names, by taking its changes at regular distances.
-- In: sha256, at_most. Out: entity_uid.
select distinct l.entity_uid
from ledger l
where l.batch_id = any (array(
        select f.batch_id from drop_file f where f.sha256 = %(sha256)s
        union
        select b.batch_id from batch b where b.drop_sha256 = %(sha256)s))
  and l.row_no %% greatest(1, (select f.rows_read from drop_file f where f.sha256 = %(sha256)s) / %(at_most)s) = 0
