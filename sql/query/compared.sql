-- How some entities differ between two instants, with what they are called at the later one (or were called last) and their type.
-- In: entity_uids, from, to, action, field, like, entity_type_id (null: any). Out: entity_uid, display_name, entity_type, action, changes
-- (JSON: field, from, to), in order of entity_uid.
select n.entity_uid, named.display_name, named.code, n.document::json ->> 'action', n.document::json -> 'changes'
from unnest(%(entity_uids)s::uuid[]) asked (entity_uid)  -- by the key, one by one: asked for together, it would take the window of time
cross join lateral (select * from net_changes(%(from)s, %(to)s) net where net.entity_uid = asked.entity_uid offset 0) n
cross join lateral (
    select e.display_name, e.entity_type_id, et.code
    from entity e
    join entity_type et on et.entity_type_id = e.entity_type_id
    where e.entity_uid = n.entity_uid and e.valid_from <= %(to)s
    order by e.valid_from desc
    limit 1
) named
where (%(action)s::text is null or n.document::json ->> 'action' = %(action)s)
  and (%(field)s::text is null
       or exists (select from json_array_elements(n.document::json -> 'changes') change where change ->> 'field' = %(field)s))
  and (%(like)s::text is null or search_form(named.display_name) like search_form(%(like)s))
  and (%(entity_type_id)s::smallint is null or named.entity_type_id = %(entity_type_id)s)
order by n.entity_uid
