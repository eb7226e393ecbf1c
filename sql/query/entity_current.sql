-- One entity as it is, with its details.
-- In: entity_uid. Out: document, none if the entity does not exist now.
select row_to_json(document)::text
from (
    select e.entity_uid, e.display_name, et.code as entity_type, utc(e.valid_from) as valid_from, utc(e.valid_to) as valid_to,
           e.is_current, encode(e.hashdiff, 'hex') as hashdiff,
           (select coalesce(json_agg(row_to_json(listed)), '[]')
             from (select dt.code as detail_type, d.detail_value, utc(d.valid_from) as valid_from, utc(d.valid_to) as valid_to,
                          d.is_current, encode(d.hashdiff, 'hex') as hashdiff
                   from entity_detail d
                   join detail_type dt on dt.detail_type_id = d.detail_type_id
                   where d.entity_uid = e.entity_uid and d.is_current
                   order by dt.code) listed) as details
    from entity e
    join entity_type et on et.entity_type_id = e.entity_type_id
    where e.entity_uid = %(entity_uid)s and e.is_current
) document
