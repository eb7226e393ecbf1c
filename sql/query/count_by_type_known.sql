-- How many entities of each type existed at an instant as known at another, without a fold: those whose last change but for patches is
-- no deletion, by the type that was said last. In: as_of. Out: as count_by_type.
with last as (
    select distinct on (entity_uid) entity_uid, op, entity_type_id, change_ts, batch_id, row_no
    from recorded_change
    where change_ts <= %(as_of)s and op <> 'patch'
    order by entity_uid desc, change_ts desc, batch_id desc, row_no desc
),
retyped as (
    select distinct on (entity_uid) entity_uid, entity_type_id, change_ts, batch_id, row_no
    from recorded_change
    where change_ts <= %(as_of)s and op = 'patch' and entity_type_id is not null
    order by entity_uid desc, change_ts desc, batch_id desc, row_no desc
)
select et.code, et.name, coalesce(existing.entities, 0) as entities
from entity_type et
left join (
    select case when (r.change_ts, r.batch_id, r.row_no) > (l.change_ts, l.batch_id, l.row_no) then r.entity_type_id
                else l.entity_type_id end as entity_type_id,
           count(*) as entities
    from last l
    left join retyped r on r.entity_uid = l.entity_uid
    where l.op <> 'delete'
    group by 1
) existing using (entity_type_id)
where et.is_active or existing.entities > 0
order by et.code
