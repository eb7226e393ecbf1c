-- Delete the entity versions that are no longer true.
-- In: entity_difference. Out: entity.
delete from entity e
using entity_difference d
where d.action = 'delete' and e.entity_uid = d.entity_uid and e.valid_from = d.valid_from
