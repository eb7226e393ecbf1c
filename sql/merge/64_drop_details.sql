-- Removes the detail versions that a late change made untrue.
-- In: detail_diff. Out: entity_detail.
delete from entity_detail e
using detail_diff d
where d.action in ('drop', 'swap')
  and e.entity_uid = d.entity_uid and e.detail_type_id = d.detail_type_id and e.valid_from = d.valid_from
