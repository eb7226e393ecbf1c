-- A page of the values that one entity's fields have had, the newest first, each with where it came from.
-- In: entity_uid, at (null: now), longest (characters of a value), limit, offset. Out: the columns of query/lanes.
with late as materialized (
    select * from late_facts(%(entity_uid)s)
)
select r.field, left(r.value, %(longest)s), char_length(r.value) <= %(longest)s, r.valid_from, r.valid_to, 1,
       r.valid_from <= coalesce(%(at)s::timestamptz, 'infinity')
           and (r.valid_to > coalesce(%(at)s::timestamptz, 'infinity') or r.valid_to is null),
       (r.valid_from, o.batch_id, o.row_no) in (select change_ts, batch_id, row_no from late),
       b.recorded_at, b.actor, b.source, b.drop_sha256, d.file_name, o.row_no, b.request_id
from (
    select * from field_runs(%(entity_uid)s)
    where field <> ''
    order by valid_from desc, field
    limit %(limit)s offset %(offset)s
) r
left join lateral origin_of_field(%(entity_uid)s, r.field, r.value, r.valid_from) o on true
left join batch b on b.batch_id = o.batch_id
left join drop_file d on d.sha256 = b.drop_sha256
order by r.valid_from desc, r.field
