-- The first of entities_current without a filter, so that one plan serves all values and can be kept: the constant limit
-- tells the planner that the page is small. In: after_name and after_uid ('' and the least: from the start), limit, offset
-- (together 101 at most). Out: document, display_name, entity_uid.
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
        select *
        from (
            select *
            from entity
            where is_current
              and (display_name, entity_uid)
                  > (%(after_name)s::text, %(after_uid)s::uuid)
            order by display_name, entity_uid
            limit 101
        ) first
        limit %(limit)s offset %(offset)s
    ) e
    join entity_type et on et.entity_type_id = e.entity_type_id
    order by display_name, entity_uid
) document
