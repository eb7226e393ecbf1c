-- All entities that had all of the given detail values at an instant, a line each in order of entity_uid.
-- In: hashdiffs (of the values), as_of, like, entity_type_id. Out: lines of JSON without control characters.
copy (
with holder as materialized (
    select entity_uid
    from entity_detail
    where hashdiff = any (%(hashdiffs)s::bytea[])
      and valid_from <= %(as_of)s and (valid_to > %(as_of)s or valid_to is null)
    group by entity_uid
    having count(*) = cardinality(%(hashdiffs)s::bytea[])
)
select row_to_json(document)::text
from (
    select e.entity_uid, e.display_name, et.code as entity_type, utc(e.valid_from) as valid_from, utc(e.valid_to) as valid_to,
           e.is_current, encode(e.hashdiff, 'hex') as hashdiff,
           (select coalesce(json_agg(row_to_json(listed)), '[]')
             from (select dt.code as detail_type, d.detail_value, utc(d.valid_from) as valid_from, utc(d.valid_to) as valid_to,
                          d.is_current, encode(d.hashdiff, 'hex') as hashdiff
                   from entity_detail d
                   join detail_type dt on dt.detail_type_id = d.detail_type_id
                   where d.entity_uid = e.entity_uid and d.valid_from <= %(as_of)s and (d.valid_to > %(as_of)s or d.valid_to is null)
                   order by dt.code) listed) as details
    from (
        select entity.*
        from holder
        join entity using (entity_uid)
        where valid_from <= %(as_of)s and (valid_to > %(as_of)s or valid_to is null)
          and (%(like)s::text is null or display_name ilike %(like)s)
          and (%(entity_type_id)s::smallint is null or entity_type_id = %(entity_type_id)s)
    ) e
    join entity_type et on et.entity_type_id = e.entity_type_id
    order by e.entity_uid
) document
) to stdout (format csv, quote e'\x01', delimiter e'\x02')
