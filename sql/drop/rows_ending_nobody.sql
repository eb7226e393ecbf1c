-- Count the deletions of an entity that did not exist just before, after the merge.
-- In: noted_row, source_key (for those that name it by a key), limit. Out: the number, and the lines of the first ones.
select count(*), (array_agg(line order by line))[:%(limit)s]
from noted_row n
left join source_key k on k.key_uid = n.entity_uid
where is_deletion
  and not exists (
      select 1 from entity e
      where e.entity_uid = coalesce(k.entity_uid, n.entity_uid) and e.valid_from < n.change_ts
        and (e.valid_to is null or e.valid_to >= n.change_ts))
