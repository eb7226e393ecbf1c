-- All net changes between two instants, a line each: the documents and the order of diff.
-- In: from, to. Out: lines of JSON; it holds no control characters, so nothing is quoted.
copy (
with field as (
    select e.entity_uid, e.valid_from > %(from)s as gained, part.field, part.value, convert_to(part.value, 'UTF8') as identity
    from entity e
    join entity_type et on et.entity_type_id = e.entity_type_id
    cross join lateral (values ('display_name', e.display_name), ('entity_type', et.code)) as part (field, value)
    where ((e.valid_from > %(from)s and e.valid_from <= %(to)s) or (e.valid_to > %(from)s and e.valid_to <= %(to)s))
      and (e.valid_from <= %(from)s or e.valid_to > %(to)s or e.valid_to is null)
    union all
    select d.entity_uid, d.valid_from > %(from)s, 'details.' || dt.code, d.detail_value, d.hashdiff
    from entity_detail d
    join detail_type dt on dt.detail_type_id = d.detail_type_id
    where ((d.valid_from > %(from)s and d.valid_from <= %(to)s) or (d.valid_to > %(from)s and d.valid_to <= %(to)s))
      and (d.valid_from <= %(from)s or d.valid_to > %(to)s or d.valid_to is null)
),
compared as (
    select entity_uid, field,
           max(value) filter (where not gained) as value_from, max(value) filter (where gained) as value_to,
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
                               order by field like 'details.%%', field) filter (where differs))::text
from compared
group by entity_uid
having bool_or(differs)
order by entity_uid
) to stdout (format csv, quote e'\x01', delimiter e'\x02')
