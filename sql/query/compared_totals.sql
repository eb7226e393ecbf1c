-- How many entities differ between two instants, by what happened to them, and in how many each field differs: the rules of
-- net_changes, without its documents. In: from, to. Out: action (null: of a field), field (null: of the entities), entities.
with e as materialized (
    select entity_uid, valid_from > %(from)s as gained, display_name, entity_type_id
    from entity
    where ((valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s))
      and (valid_from <= %(from)s or valid_to > %(to)s or valid_to is null)
),
d as materialized (
    select entity_uid, detail_type_id, valid_from > %(from)s as gained, hashdiff
    from entity_detail
    where ((valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s))
      and (valid_from <= %(from)s or valid_to > %(to)s or valid_to is null)
),
entities as materialized (
    select entity_uid,
           case when lost.display_name is null then 'created' when gained.display_name is null then 'ended' else 'changed' end as action,
           lost.display_name is distinct from gained.display_name as is_renamed,
           lost.entity_type_id is distinct from gained.entity_type_id as is_retyped
    from (select * from e where not gained) lost
    full join (select * from e where gained) gained using (entity_uid)
),
details as materialized (
    select entity_uid, detail_type_id
    from (select * from d where not gained) lost
    full join (select * from d where gained) gained using (entity_uid, detail_type_id)
    where lost.hashdiff is distinct from gained.hashdiff
)
select action, null as field, count(*) as entities from entities where action <> 'changed' group by action
union all
select 'changed', null, count(*)
from (
    select entity_uid
    from (
        select entity_uid, action <> 'changed' as is_counted from entities where action <> 'changed' or is_renamed or is_retyped
        union all
        select entity_uid, false from details
    ) part
    group by entity_uid
    having not bool_or(is_counted)
) changed
having count(*) > 0
union all
select null, 'display_name', count(*) from entities where is_renamed having count(*) > 0
union all
select null, 'entity_type', count(*) from entities where is_retyped having count(*) > 0
union all
select null, 'details.' || code, count(*) from details join detail_type using (detail_type_id) group by code
