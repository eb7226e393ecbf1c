-- Count the changes of one entity.
-- In: entity_uid. Out: count.
select count(*) from ledger where entity_uid = %(entity_uid)s
