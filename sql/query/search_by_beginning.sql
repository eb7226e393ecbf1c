-- Finds current entities whose name begins with one of some texts, in the order of their names: for texts too short for an index of
-- their parts. In: beginnings, entity_type (code; null: any), limit. Out: entity_uid, display_name, entity_type.
select e.entity_uid, e.display_name, et.code
from unnest(%(beginnings)s::text[]) as wanted (beginning)
cross join lateral (
    select entity_uid, display_name, entity_type_id
    from entity
    where is_current
      and display_name >= wanted.beginning collate "C" and display_name < (wanted.beginning || u&'\+10FFFF') collate "C"
      and (%(entity_type)s::text is null
           or entity_type_id = (select entity_type_id from entity_type where code = %(entity_type)s))
    order by display_name, entity_uid
    limit %(limit)s
) e
join entity_type et on et.entity_type_id = e.entity_type_id
order by e.display_name, e.entity_uid
limit %(limit)s
