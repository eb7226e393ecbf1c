-- Current entities that have all of the given detail values, by display_name, then entity_uid; the details are searched first.
-- In: hashdiffs (of the values), like, entity_type_id, after_name, after_uid, limit, offset. Out: document, display_name, entity_uid.
with holder as materialized (
    select entity_uid
    from entity_detail
    where hashdiff = any (%(hashdiffs)s::bytea[]) and is_current
    group by entity_uid
    having count(*) = cardinality(%(hashdiffs)s::bytea[])
)
select row_to_json(document)::text, display_name, entity_uid
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
    from (
        select entity.*
        from holder
        join entity using (entity_uid)
        where is_current
          and (%(like)s::text is null or display_name ilike %(like)s)
          and (%(entity_type_id)s::smallint is null or entity_type_id = %(entity_type_id)s)
          and (%(after_uid)s::uuid is null or (display_name, entity_uid)
               > (%(after_name)s::text, %(after_uid)s::uuid))
        order by display_name, entity_uid
        limit %(limit)s offset %(offset)s
    ) e
    join entity_type et on et.entity_type_id = e.entity_type_id
    order by display_name, entity_uid
) document
