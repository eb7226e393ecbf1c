-- Every version of one entity and of its details, in order of valid_from, the entity before its details.
-- In: entity_uid. Out: document.
select document::text
from (
    select e.valid_from, '' as code, json_build_object(
               'kind', 'entity', 'entity_uid', e.entity_uid, 'display_name', e.display_name, 'entity_type', et.code,
               'valid_from', utc(e.valid_from), 'valid_to', utc(e.valid_to), 'is_current', e.is_current,
               'hashdiff', encode(e.hashdiff, 'hex')) as document
    from entity e
    join entity_type et on et.entity_type_id = e.entity_type_id
    where e.entity_uid = %(entity_uid)s
    union all
    select d.valid_from, dt.code, json_build_object(
               'kind', 'detail', 'entity_uid', d.entity_uid, 'detail_type', dt.code, 'detail_value', d.detail_value,
               'valid_from', utc(d.valid_from), 'valid_to', utc(d.valid_to), 'is_current', d.is_current,
               'hashdiff', encode(d.hashdiff, 'hex'))
    from entity_detail d
    join detail_type dt on dt.detail_type_id = d.detail_type_id
    where d.entity_uid = %(entity_uid)s
) versions
order by valid_from, code
