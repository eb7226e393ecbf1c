-- Removes the entity versions that a late change made untrue.
-- In: entity_diff. Out: entity.
delete from entity e
using entity_diff d
where d.action in ('drop', 'swap') and e.entity_uid = d.entity_uid and e.valid_from = d.valid_from
