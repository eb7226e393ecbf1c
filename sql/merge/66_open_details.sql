-- Inserts the detail versions that hold from now on, in the order of their key.
-- In: detail_diff. Out: entity_detail.
insert into entity_detail (entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, next_from, is_current)
select entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, next_from, valid_to is null
from detail_diff
where action in ('open', 'swap')
order by entity_uid, detail_type_id, valid_from
