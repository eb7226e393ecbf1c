-- Ends the detail versions that others follow or that end for good, and says which one follows.
-- In: detail_diff. Out: entity_detail.
update entity_detail e
set valid_to = case d.action when 'open' then coalesce(e.valid_to, d.valid_from) else d.valid_to end,
    next_from = case d.action when 'open' then d.valid_from else d.next_from end,
    is_current = d.action <> 'open' and d.valid_to is null
from detail_diff d
where d.alters is not null
  and e.entity_uid = d.entity_uid and e.detail_type_id = d.detail_type_id and e.valid_from = d.alters
