-- One current version a detail.
-- In: nothing. Out: one line a breach.
select format('detail %s of entity %s has %s current versions', detail_type_id, entity_uid, count(*))
from entity_detail
where is_current
group by entity_uid, detail_type_id
having count(*) > 1
