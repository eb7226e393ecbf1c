-- Return what entities_current does for which a source has a key: without an alternative the planner may look it up entity by entity.
-- In: like (pattern, null: any), entity_type_id (null: any), source_id, after_name and after_uid (null: from the start), limit, offset.
-- Out: document, display_name, entity_uid.
select entity_document(e.entity_uid, e.display_name, et.code, e.valid_from, e.valid_to, e.is_current, e.hashdiff, (
           select string_agg(detail_document(dt.code, d.detail_value, d.valid_from, d.valid_to, d.is_current, d.hashdiff), ',' order by dt.code)
           from entity_detail d
           join detail_type dt on dt.detail_type_id = d.detail_type_id
           where d.entity_uid = e.entity_uid and d.is_current), coalesce(
           (select string_agg(k.member, ',' order by k.code) from keys_of_entity k where k.entity_uid = e.entity_uid), '')),
       e.display_name, e.entity_uid
from (
    select *
    from entity
    where is_current
      and (%(like)s::text is null or search_form(display_name) like search_form(%(like)s))
      and (%(entity_type_id)s::smallint is null or entity_type_id = %(entity_type_id)s)
      and exists (select from source_key k where k.entity_uid = entity.entity_uid and k.source_id = %(source_id)s::smallint)
      and (%(after_uid)s::uuid is null or (display_name, entity_uid) > (%(after_name)s::text, %(after_uid)s::uuid))
    order by display_name, entity_uid
    limit %(limit)s offset %(offset)s
) e
join entity_type et on et.entity_type_id = e.entity_type_id
order by e.display_name, e.entity_uid
