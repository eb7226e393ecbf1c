-- Return the versions of one entity and its details by valid_from, the entity before its details, after a given version.
-- In: entity_uid, after_from and after_code (null: from the start), since (null: all; those that hold then or later, or end then),
-- limit (null: all), offset. Out: document, valid_from, code.
select case when v.code = ''
            then '{"kind":"entity","entity_uid":"' || v.entity_uid || '","display_name":' || to_json(v.value)
                 || ',"entity_type":"' || et.code || '",'
            else '{"kind":"detail","entity_uid":"' || v.entity_uid || '","detail_type":"' || v.code
                 || '","detail_value":' || to_json(v.value) || ',' end
       || version_members(v.valid_from, v.valid_to, v.is_current, v.hashdiff) || '}',
       v.valid_from, v.code
from (
    select *
    from (
        select e.entity_uid, '' as code, e.entity_type_id, e.display_name as value, e.valid_from, e.valid_to, e.is_current,
               e.hashdiff
        from entity e
        where e.entity_uid = %(entity_uid)s
        union all
        select d.entity_uid, dt.code, null, d.detail_value, d.valid_from, d.valid_to, d.is_current, d.hashdiff
        from entity_detail d
        join detail_type dt on dt.detail_type_id = d.detail_type_id
        where d.entity_uid = %(entity_uid)s
    ) version
    where (%(after_from)s::timestamptz is null or (valid_from, code) > (%(after_from)s::timestamptz, %(after_code)s::text))
      and (%(since)s::timestamptz is null or valid_to is null or valid_to >= %(since)s::timestamptz)
    order by valid_from, code
    limit %(limit)s offset %(offset)s
) v
left join entity_type et on et.entity_type_id = v.entity_type_id
order by v.valid_from, v.code
