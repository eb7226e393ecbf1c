-- Count what was recorded of one entity: changes, and what batches did to it that do not name it.
-- In: entity_uid. Out: count.
select (select count(*) from ledger where entity_uid = %(entity_uid)s)
     + (select count(*) from batch_effect where entity_uid = %(entity_uid)s)
