-- Find names by their beginnings, all in one look.
-- In: {columns}, {wanted}, a condition on each beginning, {further}, one on the entity, {order}. Out: a relation.
from (
    select {columns}
    from entity
    where is_current and exists (select 1 from unnest(%(beginnings)s::text[]) as wanted (beginning) where {wanted})
{further}
    order by {order}
    limit %(limit)s * cardinality(%(beginnings)s::text[])
) e
