-- Count the current entities of each type, and how many of them have each detail.
-- In: nothing. Out: the fields of Completeness.
select et.code as entity_type, dt.code as detail_type, coalesce(entities, 0) as entities, coalesce(entities_with, 0) as entities_with,
       coalesce(entities_with, 0) / nullif(entities, 0)::float8 as share
from entity_type et
cross join detail_type dt
left join (
    select entity_type_id, count(*) as entities from entity where is_current group by entity_type_id
) e using (entity_type_id)
left join (
    select entity_type_id, detail_type_id, count(*) as entities_with
    from entity
    join entity_detail using (entity_uid)
    where entity.is_current and entity_detail.is_current
    group by entity_type_id, detail_type_id
) d using (entity_type_id, detail_type_id)
where (et.is_active or entities > 0) and (dt.is_active or entities_with > 0)
order by et.code, dt.code
