-- Count what was recorded of one entity: changes, and undos and reinstatements of batches that name it.
-- In: entity_uid. Out: count.
select (select count(*) from ledger where entity_uid = %(entity_uid)s)
     + (select count(distinct r.batch_id) from ledger l join retraction r on r.of_batch_id = l.batch_id where l.entity_uid = %(entity_uid)s)
