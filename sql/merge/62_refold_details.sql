-- Finds how the versions of the details of the entities that are folded anew differ from the fold.
-- In: detail_difference, which reads touched, ledger and entity_detail. Out: detail_diff.
insert into detail_diff (entity_uid, detail_type_id, valid_from, valid_to, next_from, detail_value, hashdiff, action, alters)
select entity_uid, detail_type_id, valid_from, valid_to, next_from, detail_value, hashdiff, action, alters
from detail_difference
