-- Find how the stored versions of these entities differ from the fold.
-- In: recorded_change, refolded, entity. Out: entity_difference.
insert into entity_difference (entity_uid, action, valid_from, valid_to, old_to, display_name, entity_type_id, hashdiff)
select entity_uid, action, valid_from, valid_to, old_to, display_name, entity_type_id, hashdiff
from entity_differences()
