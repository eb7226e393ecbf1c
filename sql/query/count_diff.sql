-- Counts the entities, of some or of all, that differ between two instants. What one lost since the first is what it gained
-- until the other if nothing differs; what came and went again in between is neither.
-- In: from, to, entity_uids (null: all). Out: count.
select count(distinct entity_uid)
from (
    select entity_uid
    from (
        select entity_uid, null::smallint as detail_type_id, hashdiff
        from entity
        where (%(entity_uids)s::uuid[] is null or entity_uid = any (%(entity_uids)s))
          and ((valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s))
          and (valid_from <= %(from)s or valid_to > %(to)s or valid_to is null)
        union all
        select entity_uid, detail_type_id, hashdiff
        from entity_detail
        where (%(entity_uids)s::uuid[] is null or entity_uid = any (%(entity_uids)s))
          and ((valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s))
          and (valid_from <= %(from)s or valid_to > %(to)s or valid_to is null)
    ) lost_or_gained
    group by entity_uid, detail_type_id, hashdiff
    having count(*) = 1
) differing
