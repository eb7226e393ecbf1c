-- Find how the stored versions of their details differ from the fold.
-- In: recorded_change, refolded, entity_detail. Out: detail_difference.
insert into detail_difference (entity_uid, detail_type_id, action, valid_from, valid_to, old_to, detail_value, hashdiff)
select entity_uid, detail_type_id, action, valid_from, valid_to, old_to, detail_value, hashdiff
from detail_differences()
