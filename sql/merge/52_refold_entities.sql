-- Finds how the versions of the entities that are folded anew differ from the fold.
-- In: entity_difference, which reads touched, ledger and entity. Out: entity_diff.
insert into entity_diff (entity_uid, valid_from, valid_to, display_name, entity_type_id, hashdiff, action, closes)
select entity_uid, valid_from, valid_to, display_name, entity_type_id, hashdiff, action, closes from entity_difference
