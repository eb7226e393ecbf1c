-- Delete the detail versions that are no longer true.
-- In: detail_difference. Out: entity_detail.
delete from entity_detail e
using detail_difference d
where d.action = 'delete'
  and e.entity_uid = d.entity_uid and e.detail_type_id = d.detail_type_id and e.valid_from = d.valid_from
