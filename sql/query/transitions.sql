-- What changed of some entities at some moments, one document a moment in order of (instant, entity_uid): what ended then is
-- compared with what began, and the ledger's last change of the entity at that instant says when and by whom it was recorded.
-- In: ats and entity_uids (pair by pair). Out: document, at, entity_uid.
with moment as (
    select * from unnest(%(ats)s::timestamptz[], %(entity_uids)s::uuid[]) as moment (at, entity_uid)
),
field as (
    select at, e.entity_uid, valid_from = at as began, part.field, part.value, convert_to(part.value, 'UTF8') as identity
    from moment
    join entity e on e.entity_uid = moment.entity_uid and (e.valid_from = at or e.valid_to = at)
    join entity_type et on et.entity_type_id = e.entity_type_id
    cross join lateral (values ('display_name', e.display_name), ('entity_type', et.code)) as part (field, value)
    where e.entity_uid = any (%(entity_uids)s)  -- with known_at, only these are folded
    union all
    select at, d.entity_uid, valid_from = at, 'details.' || dt.code, d.detail_value, d.hashdiff
    from moment
    join entity_detail d on d.entity_uid = moment.entity_uid and (d.valid_from = at or d.valid_to = at)
    join detail_type dt on dt.detail_type_id = d.detail_type_id
    where d.entity_uid = any (%(entity_uids)s)
),
compared as (
    select at, entity_uid, field,
           max(value) filter (where not began) as value_from, max(value) filter (where began) as value_to,
           count(distinct identity) > 1 or count(*) = 1 as differs
    from field
    group by at, entity_uid, field
),
transition as (
    select at, entity_uid,
           case when bool_and(value_from is null) filter (where field = 'display_name') then 'created'
                when bool_and(value_to is null) filter (where field = 'display_name') then 'ended'
                else 'changed' end as action,
           json_agg(json_build_object('field', field, 'from', value_from, 'to', value_to)
                    order by field like 'details.%%', field) filter (where differs) as changes
    from compared
    group by at, entity_uid
)
select json_build_object(
           'entity_uid', t.entity_uid, 'at', utc(t.at), 'action', t.action, 'changes', t.changes,
           'recorded_at', utc(b.recorded_at), 'actor', b.actor,
           'source', case b.source
               when 'drop' then json_build_object(
                   'kind', b.source, 'sha256', b.drop_sha256, 'file_name', f.file_name, 'line', last[2])
               else json_build_object('kind', b.source, 'request_id', b.request_id) end)::text,
       t.at, t.entity_uid
from (
    select *, (select array[l.batch_id, l.row_no]
               from ledger l
               where l.entity_uid = transition.entity_uid and l.change_ts = transition.at
               order by l.batch_id desc, l.row_no desc
               limit 1) as last
    from transition
) t
join batch b on b.batch_id = last[1]
left join drop_file f on f.sha256 = b.drop_sha256
order by t.at, t.entity_uid
