-- Return a page of entities_current without a filter, so that one cached plan serves all values: the constant limit
-- tells the planner that the page is small. In: after_name and after_uid ('' and the least: from the start), limit, offset
-- (together 101 at most). Out: document, display_name, entity_uid.
select entity_document(e.entity_uid, e.display_name, et.code, e.valid_from, e.valid_to, e.is_current, e.hashdiff, (
           select string_agg(detail_document(dt.code, d.detail_value, d.valid_from, d.valid_to, d.is_current, d.hashdiff), ',' order by dt.code)
           from entity_detail d
           join detail_type dt on dt.detail_type_id = d.detail_type_id
           where d.entity_uid = e.entity_uid and d.is_current), coalesce(
           (select string_agg(k.member, ',' order by k.code) from keys_of_entity k where k.entity_uid = e.entity_uid), '')),
       e.display_name, e.entity_uid
from (
    select *
    from (
        select *
        from entity
        where is_current and (display_name, entity_uid) > (%(after_name)s::text, %(after_uid)s::uuid)
        order by display_name, entity_uid
        limit 101
    ) first
    limit %(limit)s offset %(offset)s
) e
join entity_type et on et.entity_type_id = e.entity_type_id
order by e.display_name, e.entity_uid
