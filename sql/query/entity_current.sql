-- Return one entity as it is now, with its details.
-- In: entity_uid. Out: document; no row if the entity does not exist now.
select entity_document(e.entity_uid, e.display_name, et.code, e.valid_from, e.valid_to, e.is_current, e.hashdiff, (
           select string_agg(detail_document(dt.code, d.detail_value, d.valid_from, d.valid_to, d.is_current, d.hashdiff), ',' order by dt.code)
           from entity_detail d
           join detail_type dt on dt.detail_type_id = d.detail_type_id
           where d.entity_uid = %(entity_uid)s and d.is_current), coalesce(
           (select string_agg(k.member, ',' order by k.code) from keys_of_entity k where k.entity_uid = e.entity_uid), ''))
from entity e
join entity_type et on et.entity_type_id = e.entity_type_id
where e.entity_uid = %(entity_uid)s and e.is_current
