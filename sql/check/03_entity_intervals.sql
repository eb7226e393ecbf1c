-- Entity versions do not overlap, are not empty, are current exactly when open, and differ from their neighbour.
-- In: uids (null: all entities). Out: one line a breach.
select format('entity %%s: version from %%s to %%s is followed by one from %%s', entity_uid, valid_from, valid_to, next_from)
from (
    select *, lead(valid_from) over ordered as next_from, lead(hashdiff) over ordered as next_hashdiff
    from entity
    where %(uids)s::uuid[] is null or entity_uid = any (%(uids)s)
    window ordered as (partition by entity_uid order by valid_from)
) neighbours
where next_from < coalesce(valid_to, 'infinity') or valid_to <= valid_from or is_current <> (valid_to is null)
   or (next_from = valid_to and next_hashdiff = hashdiff)
