-- Set the new end of the detail versions that are cut or extended.
-- In: detail_difference, recorded_at. Out: entity_detail.
update entity_detail e
set valid_to = d.valid_to, is_current = d.valid_to is null, updated_at = %(recorded_at)s
from detail_difference d
where d.action = 'end'
  and e.entity_uid = d.entity_uid and e.detail_type_id = d.detail_type_id and e.valid_from = d.valid_from
