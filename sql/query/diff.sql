-- Net changes of some entities between two instants, one document an entity in order of entity_uid: the states at both ends
-- are compared, field by field in the field's own comparison, so what came and went again is no change.
-- In: entity_uids, from, to. Out: document, entity_uid.
with instant (side, at) as (
    values ('from', %(from)s::timestamptz), ('to', %(to)s::timestamptz)
),
field as (
    select e.entity_uid, side, part.field, part.value, convert_to(part.value, 'UTF8') as identity
    from entity e
    join entity_type et using (entity_type_id)
    join instant on e.valid_from <= at and (e.valid_to > at or e.valid_to is null)
    cross join lateral (values ('display_name', e.display_name), ('entity_type', et.code)) as part (field, value)
    where e.entity_uid = any (%(entity_uids)s)
    union all
    select d.entity_uid, side, 'details.' || dt.code, d.detail_value, d.hashdiff
    from entity_detail d
    join detail_type dt using (detail_type_id)
    join instant on d.valid_from <= at and (d.valid_to > at or d.valid_to is null)
    where d.entity_uid = any (%(entity_uids)s)
),
compared as (
    select entity_uid, field,
           max(value) filter (where side = 'from') as value_from, max(value) filter (where side = 'to') as value_to,
           count(distinct identity) > 1 or count(*) = 1 as differs
    from field
    group by entity_uid, field
)
select json_build_object(
           'entity_uid', entity_uid,
           'action', case when bool_and(value_from is null) filter (where field = 'display_name') then 'created'
                          when bool_and(value_to is null) filter (where field = 'display_name') then 'ended'
                          else 'changed' end,
           'changes', json_agg(json_build_object('field', field, 'from', value_from, 'to', value_to)
                               order by field like 'details.%%', field) filter (where differs))::text,
       entity_uid
from compared
group by entity_uid
having bool_or(differs)
order by entity_uid
