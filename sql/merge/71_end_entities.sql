-- Set the new end of the entity versions that are cut or extended.
-- In: entity_difference, recorded_at. Out: entity.
update entity e
set valid_to = d.valid_to, is_current = d.valid_to is null, updated_at = %(recorded_at)s
from entity_difference d
where d.action = 'end' and e.entity_uid = d.entity_uid and e.valid_from = d.valid_from
