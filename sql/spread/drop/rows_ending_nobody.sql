-- Find deletions of entities that did not exist just before; to ask before the drop is merged.
-- In: noted_row, source_key, entity, limit. Out: the number, and the lines of the first ones.
with ending as materialized (
    select n.line, coalesce(k.entity_uid, n.entity_uid) as entity_uid, n.change_ts
    from noted_row n
    left join source_key k on k.key_uid = n.entity_uid
    where is_deletion
)
select count(*), (array_agg(line order by line))[:%(limit)s]
from (
    select line from ending
    except
    select n.line
    from ending n
    join entity e on e.entity_uid = n.entity_uid
        and e.valid_from < n.change_ts and (e.valid_to is null or e.valid_to >= n.change_ts)
) nobody
