-- Ends the entity versions that others follow or a deletion ends, and says which one follows.
-- In: entity_diff. Out: entity.
update entity e
set valid_to = case d.action when 'open' then coalesce(e.valid_to, d.valid_from) else d.valid_to end,
    next_from = case d.action when 'open' then d.valid_from else d.next_from end,
    is_current = d.action <> 'open' and d.valid_to is null
from entity_diff d
where d.alters is not null and e.entity_uid = d.entity_uid and e.valid_from = d.alters
