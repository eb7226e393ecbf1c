-- The runs of one entity's fields that overlap a window, and those that hold at an instant. Runs that are shorter than a
-- part of the window are gathered, a row for each column of time in which some begin; a single one says where it came from.
-- In: entity_uid, since, until, at (null: now), parts and columns (of the window), longest (characters of a value).
-- Out: field, value (null if gathered), is_whole (of the value), valid_from, valid_to, runs (how many), holds, is_late,
-- recorded_at, actor, source, sha256, file_name, line, request_id; in order of field and time.
with measure as (
    select since, until, greatest((until - since) / %(columns)s::integer, interval '1 microsecond') as step,
           (until - since) / %(parts)s::integer as shortest, coalesce(%(at)s::timestamptz, 'infinity') as at
    from (values (%(since)s::timestamptz, %(until)s::timestamptz)) as given (since, until)
),
late as materialized (
    select * from late_facts(%(entity_uid)s)
),
run as (
    select r.*, r.valid_from <= m.at and (r.valid_to > m.at or r.valid_to is null) as holds,
           r.valid_from in (select change_ts from late) as is_late
    from field_runs(%(entity_uid)s) r
    cross join measure m
),
placed as (
    select r.*, is_short, case when is_short then date_bin(m.step, r.valid_from, m.since) else r.valid_from end as place
    from run r
    cross join measure m
    cross join lateral (select not r.holds and coalesce(r.valid_to - r.valid_from < m.shortest, false)) as measured (is_short)
    where r.holds or (r.valid_from < m.until and (r.valid_to > m.since or r.valid_to is null))
),
shown as (
    select field, count(*) as runs, case when count(*) = 1 then min(value) end as value, min(valid_from) as valid_from,
           nullif(max(coalesce(valid_to, 'infinity')), 'infinity') as valid_to, bool_or(holds) as holds, bool_or(is_late) as is_late
    from placed
    group by field, place, is_short
)
select s.field, left(s.value, %(longest)s), char_length(s.value) <= %(longest)s, s.valid_from, s.valid_to, s.runs, s.holds,
       s.is_late and (s.runs > 1 or (s.valid_from, o.batch_id, o.row_no) in (select change_ts, batch_id, row_no from late)),
       b.recorded_at, b.actor, b.source, b.drop_sha256, d.file_name, o.row_no, b.request_id
from shown s
left join lateral origin_of_field(%(entity_uid)s, s.field, s.value, s.valid_from) o on s.runs = 1 and s.field <> ''
left join batch b on b.batch_id = o.batch_id
left join drop_file d on d.sha256 = b.drop_sha256
order by s.field, s.valid_from
