-- Inserts the entity versions that hold from now on, in the order of their key.
-- In: entity_diff. Out: entity.
insert into entity (entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, next_from, is_current)
select entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, next_from, valid_to is null
from entity_diff
where action in ('open', 'swap')
order by entity_uid, valid_from
