-- Insert the new entity versions, in the order of their key.
-- In: entity_difference, recorded_at. Out: entity.
insert into entity (entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, is_current, created_at, updated_at)
select entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, valid_to is null,
       %(recorded_at)s, %(recorded_at)s
from entity_difference
where action = 'insert'
order by entity_uid, valid_from
