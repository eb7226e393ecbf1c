-- Insert the new detail versions, in the order of their key.
-- In: detail_difference, recorded_at. Out: entity_detail.
insert into entity_detail (entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, is_current,
                           created_at, updated_at)
select entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, valid_to is null,
       %(recorded_at)s, %(recorded_at)s
from detail_difference
where action = 'insert'
order by entity_uid, detail_type_id, valid_from
