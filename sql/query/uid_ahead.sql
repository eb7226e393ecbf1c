-- The entity that comes `entities` entities later in the order of entity_uid.
-- In: after_uid (null: from the start), entities. Out: entity_uid; nothing if there are fewer.
select distinct entity_uid
from entity
where %(after_uid)s::uuid is null or entity_uid > %(after_uid)s
order by entity_uid
offset %(entities)s limit 1
