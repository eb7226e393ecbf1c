-- Return some entities as they were at an instant, in order of entity_uid; the details of all of them are folded together.
-- In: entity_uids, as_of. Out: document, entity_uid.
select entity_document(e.entity_uid, e.display_name, et.code, e.valid_from, e.valid_to, e.is_current, e.hashdiff, d.details),
       e.entity_uid
from entity e
join entity_type et on et.entity_type_id = e.entity_type_id
left join (
    select d.entity_uid, string_agg(
               detail_document(dt.code, d.detail_value, d.valid_from, d.valid_to, d.is_current, d.hashdiff), ',' order by dt.code
           ) as details
    from entity_detail d
    join detail_type dt on dt.detail_type_id = d.detail_type_id
    where d.entity_uid = any (%(entity_uids)s::uuid[])
      and d.valid_from <= %(as_of)s and (d.valid_to > %(as_of)s or d.valid_to is null)
    group by d.entity_uid
) d on d.entity_uid = e.entity_uid
where e.entity_uid = any (%(entity_uids)s::uuid[])
  and e.valid_from <= %(as_of)s and (e.valid_to > %(as_of)s or e.valid_to is null)
order by e.entity_uid
