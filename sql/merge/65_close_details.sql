-- Closes the detail versions that end where another begins, or for good.
-- In: detail_diff. Out: entity_detail.
update entity_detail e
set valid_to = case d.action when 'open' then d.valid_from else d.valid_to end, is_current = false
from detail_diff d
where d.closes is not null
  and e.entity_uid = d.entity_uid and e.detail_type_id = d.detail_type_id and e.valid_from = d.closes
