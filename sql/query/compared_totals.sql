-- How many entities differ between two instants, by what happened to them, and in how many each field differs.
-- In: from, to. Out: action, field (null: the entities themselves), entities.
select n.document::json ->> 'action' as action, change ->> 'field' as field, count(*) as entities
from net_changes(%(from)s, %(to)s) n
cross join lateral (
    select null::json as change
    union all
    select json_array_elements(n.document::json -> 'changes')
) part
group by 1, 2
order by 1, 2 nulls first
