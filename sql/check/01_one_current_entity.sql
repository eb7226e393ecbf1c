-- One current version an entity.
-- In: nothing. Out: one line a breach.
select format('entity %s has %s current versions', entity_uid, count(*))
from entity
where is_current
group by entity_uid
having count(*) > 1
