-- Net changes between two instants, one document an entity in order of entity_uid, from behind one: what begins or ends in
-- between is compared at both ends, by the fields' own comparison; what came and went again is no change.
-- In: from, to, after_uid (null: from the start), limit. Out: document, entity_uid.
with touched as (
    select entity_uid from entity where valid_from > %(from)s and valid_from <= %(to)s
    union
    select entity_uid from entity where valid_to > %(from)s and valid_to <= %(to)s
    union
    select entity_uid from entity_detail where valid_from > %(from)s and valid_from <= %(to)s
    union
    select entity_uid from entity_detail where valid_to > %(from)s and valid_to <= %(to)s
),
instant (side, at) as (
    values ('from', %(from)s::timestamptz), ('to', %(to)s::timestamptz)
),
field as (
    select e.entity_uid, side, part.field, part.value, convert_to(part.value, 'UTF8') as identity
    from touched
    join entity e using (entity_uid)
    join entity_type et using (entity_type_id)
    join instant on e.valid_from <= at and (e.valid_to > at or e.valid_to is null)
    cross join lateral (values ('display_name', e.display_name), ('entity_type', et.code)) as part (field, value)
    where %(after_uid)s::uuid is null or e.entity_uid > %(after_uid)s
    union all
    select d.entity_uid, side, 'details.' || dt.code, d.detail_value, d.hashdiff
    from touched
    join entity_detail d using (entity_uid)
    join detail_type dt using (detail_type_id)
    join instant on d.valid_from <= at and (d.valid_to > at or d.valid_to is null)
    where %(after_uid)s::uuid is null or d.entity_uid > %(after_uid)s
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
limit %(limit)s
