-- Count the versions of one entity and of its details.
-- In: entity_uid. Out: count.
select (select count(*) from entity where entity_uid = %(entity_uid)s)
       + (select count(*) from entity_detail where entity_uid = %(entity_uid)s)
