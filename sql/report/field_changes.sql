-- Count by field what batches changed: where a timeline, as it is now, has another value from the instant of a change on.
-- Created: no value just before; changed: a different one; ended: no value from then on. Only the last recorded change of an
-- instant counts. In: batch_ids. Out: sha256, field, created, changed, ended; fields without changes are left out.
with standing as (
    select entity_uid, change_ts, batch_id
    from ledger l
    where batch_id = any (%(batch_ids)s::bigint[]) and acts
      and not exists (
          select from ledger later
          where later.entity_uid = l.entity_uid and later.change_ts = l.change_ts and later.acts
            and (later.batch_id, later.row_no) > (l.batch_id, l.row_no))
),
entity_begins as (
    select batch_id, count(*) as begins
    from standing s
    join entity e on e.entity_uid = s.entity_uid and e.valid_from = s.change_ts
    group by batch_id
),
entity_ends as (
    select batch_id, count(*) as ends, count(next.entity_uid) as goes_on,
           count(*) filter (where next.display_name <> e.display_name) as renamed,
           count(*) filter (where next.entity_type_id <> e.entity_type_id) as retyped
    from standing s
    join entity e on e.entity_uid = s.entity_uid and e.valid_to = s.change_ts
    left join entity next on next.entity_uid = e.entity_uid and next.valid_from = e.valid_to
    group by batch_id
),
detail_begins as (
    select batch_id, detail_type_id, count(*) as begins
    from standing s
    join entity_detail d on d.entity_uid = s.entity_uid and d.valid_from = s.change_ts
    group by batch_id, detail_type_id
),
detail_ends as (
    select batch_id, d.detail_type_id, count(*) as ends, count(next.entity_uid) as goes_on
    from standing s
    join entity_detail d on d.entity_uid = s.entity_uid and d.valid_to = s.change_ts
    left join entity_detail next
        on next.entity_uid = d.entity_uid and next.detail_type_id = d.detail_type_id and next.valid_from = d.valid_to
    group by batch_id, d.detail_type_id
),
field as (
    select batch_id, part.field, begins, ends, goes_on, part.changed
    from entity_begins
    full join entity_ends using (batch_id)
    cross join lateral (values ('display_name', renamed), ('entity_type', retyped)) as part (field, changed)
    union all
    select batch_id, 'details.' || code, begins, ends, goes_on, goes_on
    from detail_begins
    full join detail_ends using (batch_id, detail_type_id)
    join detail_type using (detail_type_id)
)
select drop_sha256, field, sum(created)::bigint, sum(changed)::bigint, sum(ended)::bigint
from (
    select batch_id, field, coalesce(begins, 0) - coalesce(goes_on, 0) as created, coalesce(changed, 0) as changed,
           coalesce(ends, 0) - coalesce(goes_on, 0) as ended
    from field
) counted
join batch using (batch_id)
where created + changed + ended > 0
group by drop_sha256, field
order by field like 'details.%%', field
