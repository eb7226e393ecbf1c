-- The ledger, replayed, gives the detail versions and no others.
-- In: uids (null: all entities). Out: one line for each breach.
select format('entity %%s, detail %%s: version from %%s to %%s is %%s', entity_uid, detail_type_id, valid_from, valid_to,
              case when is_stored then 'stored, and not what the ledger says' else 'what the ledger says, and not stored' end)
from (
    select entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, is_current, bool_or(is_stored) as is_stored
    from (
        select entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, is_current, true as is_stored
        from entity_detail
        union all
        select entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, valid_to is null, false
        from folded_details()
    ) both_sides
    where %(uids)s::uuid[] is null or entity_uid = any (%(uids)s)
    group by entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, is_current
    having count(*) <> 2
) differing
