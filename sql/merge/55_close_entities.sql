-- Closes the entity versions that end where another begins, or with a deletion.
-- In: entity_diff. Out: entity.
update entity e
set valid_to = case d.action when 'open' then d.valid_from else d.valid_to end, is_current = false
from entity_diff d
where d.closes is not null and e.entity_uid = d.entity_uid and e.valid_from = d.closes
