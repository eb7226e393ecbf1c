-- Count the current values of each detail type, and how many are different as the type compares them.
-- In: nothing. Out: the fields of Distinctness.
select code as detail_type, coalesce(sum(times), 0)::bigint as total, count(times) as distinct_values,
       count(times) / nullif(sum(times), 0)::float8 as share
from detail_type
left join (
    select detail_type_id, count(*) as times from entity_detail where is_current group by detail_type_id, hashdiff
) value using (detail_type_id)
group by code, is_active
having is_active or count(times) > 0
order by code
