-- Return all entity types.
-- In: nothing. Out: entity_type_id, code, name, description, is_active, in order of code.
select entity_type_id, code, name, description, is_active from entity_type order by code
