-- How many entities of each type existed at an instant.
-- In: as_of. Out: code, name, entities, in order of the code; a type without entities has 0 if it is active.
select et.code, et.name, coalesce(existing.entities, 0) as entities
from entity_type et
left join (
    select entity_type_id, count(*) as entities
    from entity
    where valid_from <= %(as_of)s and (valid_to > %(as_of)s or valid_to is null)
    group by entity_type_id
) existing using (entity_type_id)
where et.is_active or existing.entities > 0
order by et.code
