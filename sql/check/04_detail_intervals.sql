-- Detail versions do not overlap, are not empty, are current exactly when open, and differ from the version before.
-- In: uids (null: all entities). Out: one line for each breach.
select format('entity %%s, detail %%s: version from %%s to %%s is followed by one from %%s',
              entity_uid, detail_type_id, valid_from, valid_to, follower_from)
from (
    select *, lead(valid_from) over ordered as follower_from, lead(hashdiff) over ordered as follower_hashdiff
    from entity_detail
    where %(uids)s::uuid[] is null or entity_uid = any (%(uids)s)
    window ordered as (partition by entity_uid, detail_type_id order by valid_from)
) neighbours
where follower_from < coalesce(valid_to, 'infinity') or valid_to <= valid_from or is_current <> (valid_to is null)
   or (follower_from = valid_to and follower_hashdiff = hashdiff)
