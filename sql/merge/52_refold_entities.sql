-- Finds how the versions of the entities that are folded anew differ from the fold.
-- In: entity_difference, which reads touched, ledger and entity. Out: entity_diff.
insert into entity_diff (entity_uid, valid_from, valid_to, next_from, display_name, entity_type_id, hashdiff, action, alters)
select entity_uid, valid_from, valid_to, next_from, display_name, entity_type_id, hashdiff, action, alters
from entity_difference
