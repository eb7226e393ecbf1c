-- The whole past of one entity as its page shows it, from one look at it. Each row is of one part:
-- `field`: a field that ever had a value: how many (runs), when the last of them ended by `at` (valid_to), when the first begins after
--   `at` (valid_from), and whether one is open (holds);
-- `moment`: an instant at which something changes (valid_from); if there are more than `moments`, that many of them, evenly spread;
-- `lane`: the runs that overlap a window, and those that hold at `at`. Runs that are shorter than a part of the window are gathered,
--   one for each column of it in which some begin;
-- `value`: a page of the runs, the newest first.
-- A single run of a lane, and a value, says where it came from.
-- In: entity_uid, at (null: now), since and until (null: from the first moment to the last, with `at` and now), now, parts and columns (of
-- the window), moments (2 or more), longest (characters of a value), limit and offset (of the values).
-- Out: part, field, value (null if gathered), is_whole (of the value), valid_from, valid_to, runs (how many), holds, is_late,
-- recorded_at, actor, source, sha256, file_name, line, request_id; in order of time.
with run as materialized (
    select r.*, r.valid_from <= coalesce(%(at)s::timestamptz, 'infinity')
                and (r.valid_to > coalesce(%(at)s::timestamptz, 'infinity') or r.valid_to is null) as holds
    from field_runs(%(entity_uid)s) r
),
late as materialized (
    select * from late_facts(%(entity_uid)s)
),
moment as (
    select valid_from as at from run
    union
    select valid_to from run where valid_to is not null
),
measure as materialized (
    select since, until, greatest((until - since) / %(columns)s::integer, interval '1 microsecond') as step,
           (until - since) / %(parts)s::integer as shortest
    from (
        select coalesce(%(since)s::timestamptz, least(min(at), %(at)s::timestamptz, %(now)s::timestamptz)) as since,
               coalesce(%(until)s::timestamptz, greatest(max(at), %(at)s::timestamptz, %(now)s::timestamptz)) as until
        from moment
    ) given
),
placed as (
    select r.*, is_short, case when is_short then date_bin(m.step, r.valid_from, m.since) else r.valid_from end as place
    from run r
    cross join measure m
    cross join lateral (select not r.holds and coalesce(r.valid_to - r.valid_from < m.shortest, false)) as measured (is_short)
    where r.holds or (r.valid_from <= m.until and (r.valid_to > m.since or r.valid_to is null))
),
shown as (
    select 'lane' as part, field, case when count(*) = 1 then min(value) end as value, min(valid_from) as valid_from,
           nullif(max(coalesce(valid_to, 'infinity')), 'infinity') as valid_to, count(*) as runs, bool_or(holds) as holds,
           bool_or(valid_from in (select change_ts from late)) as is_late
    from placed
    group by field, place, is_short
    union all
    (select 'value', field, value, valid_from, valid_to, 1, holds, true
     from run
     where field <> ''
     order by valid_from desc, field
     limit %(limit)s offset %(offset)s)
)
select s.part, s.field, left(s.value, %(longest)s), char_length(s.value) <= %(longest)s, s.valid_from, s.valid_to, s.runs, s.holds,
       s.is_late and (s.runs > 1 or (s.valid_from, o.batch_id, o.row_no) in (select change_ts, batch_id, row_no from late)),
       b.recorded_at, b.actor, b.source, b.drop_sha256, d.file_name, o.row_no, b.request_id
from shown s
left join lateral origin_of_field(%(entity_uid)s, s.field, s.value, s.valid_from) o on s.runs = 1 and s.field <> ''
left join batch b on b.batch_id = o.batch_id
left join drop_file d on d.sha256 = b.drop_sha256
union all
select 'field', field, null, null, min(valid_from) filter (where valid_from > coalesce(%(at)s::timestamptz, 'infinity')),
       max(valid_to) filter (where valid_to <= coalesce(%(at)s::timestamptz, 'infinity')), count(*), bool_or(valid_to is null), null,
       null, null, null, null, null, null, null
from run
group by field
union all
select 'moment', null, null, null, at, null, null, null, null, null, null, null, null, null, null, null
from (
    select at, row_number() over (order by at) - 1 as place, count(*) over () - 1 as last from moment
) placed
where place = 0 or last < %(moments)s or place * (%(moments)s - 1) / last > (place - 1) * (%(moments)s - 1) / last
order by 5
