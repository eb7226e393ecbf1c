-- Return a page of entities_as_of without a filter, so that one cached plan serves all values (see entities_current_unfiltered).
-- In: as_of, after_uid, after_from (infinity; -infinity: include the uid itself), limit, offset. Out: document, display_name, entity_uid.
select entity_document(e.entity_uid, e.display_name, et.code, e.valid_from, e.valid_to, e.is_current, e.hashdiff, (
           select string_agg(detail_document(dt.code, d.detail_value, d.valid_from, d.valid_to, d.is_current, d.hashdiff), ',' order by dt.code)
           from entity_detail d
           join detail_type dt on dt.detail_type_id = d.detail_type_id
           where d.entity_uid = e.entity_uid and d.valid_from <= %(as_of)s and (d.valid_to > %(as_of)s or d.valid_to is null))),
       e.display_name, e.entity_uid
from (
    select *
    from (
        select *
        from entity
        where valid_from <= %(as_of)s and (valid_to > %(as_of)s or valid_to is null)
          and (entity_uid, valid_from) > (%(after_uid)s::uuid, %(after_from)s::timestamptz)
        order by entity_uid
        limit 101
    ) first
    limit %(limit)s offset %(offset)s
) e
join entity_type et on et.entity_type_id = e.entity_type_id
order by e.entity_uid
