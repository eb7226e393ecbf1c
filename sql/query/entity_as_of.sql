-- Return one entity as it was at an instant, with its details.
-- In: entity_uid, as_of. Out: document; no row if the entity did not exist then.
select entity_document(e.entity_uid, e.display_name, et.code, e.valid_from, e.valid_to, e.is_current, e.hashdiff, (
           select string_agg(detail_document(dt.code, d.detail_value, d.valid_from, d.valid_to, d.is_current, d.hashdiff), ',' order by dt.code)
           from entity_detail d
           join detail_type dt on dt.detail_type_id = d.detail_type_id
           where d.entity_uid = %(entity_uid)s and d.valid_from <= %(as_of)s and (d.valid_to > %(as_of)s or d.valid_to is null)))
from entity e
join entity_type et on et.entity_type_id = e.entity_type_id
where e.entity_uid = %(entity_uid)s and e.valid_from <= %(as_of)s and (e.valid_to > %(as_of)s or e.valid_to is null)
