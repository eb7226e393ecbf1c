-- Return all current entities by display_name, then entity_uid, one line each; all details are grouped together, and all keys.
-- In: like (pattern, null: any), entity_type_id, source_id, key_uids (null: any). Out: lines of JSON without control characters.
copy (
select entity_document(e.entity_uid, e.display_name, et.code, e.valid_from, e.valid_to, e.is_current, e.hashdiff, d.details, coalesce(k.keys, ''))
from entity e
join entity_type et on et.entity_type_id = e.entity_type_id
left join (
    select d.entity_uid, string_agg(
               detail_document(dt.code, d.detail_value, d.valid_from, d.valid_to, d.is_current, d.hashdiff), ',' order by dt.code
           ) as details
    from entity_detail d
    join detail_type dt on dt.detail_type_id = d.detail_type_id
    where d.is_current
    group by d.entity_uid
) d on d.entity_uid = e.entity_uid
left join (
    select entity_uid, string_agg(member, ',' order by code) as keys
    from keys_of_entity
    group by entity_uid
) k on k.entity_uid = e.entity_uid
where e.is_current
  and (%(like)s::text is null or search_form(e.display_name) like search_form(%(like)s))
  and (%(entity_type_id)s::smallint is null or e.entity_type_id = %(entity_type_id)s)
  and (%(source_id)s::smallint is null or exists (
      select from source_key k where k.entity_uid = e.entity_uid and k.source_id = %(source_id)s))
  and (%(key_uids)s::uuid[] is null or e.entity_uid = any (array(
      select k.entity_uid from source_key k where k.key_uid = any (%(key_uids)s::uuid[]))))
order by e.display_name, e.entity_uid
) to stdout (format csv, quote e'\x01', delimiter e'\x02')
