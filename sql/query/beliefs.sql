-- What was believed of one field of an entity after each of the last recordings that may concern it (batches that said something of it, or
-- undid or reinstated that, or ended the entity as a snapshot), the newest first: the runs that overlap a window. Runs that are shorter than
-- a part of the window are gathered, one for each column of it in which some begin.
-- What was believed last stands in the tables; the others are folded. So few recordings are looked at of an entity with many changes.
-- In: entity_uid, field, since and until (null: all runs, and none is gathered), parts and columns (of the window), longest (characters of a
-- value), most_folded (changes), fewest and most (recordings).
-- Out: recorded_at, actor, source, sha256, file_name, line (the first), request_id, recordings (how many there are), digest (of all runs;
-- null: there was none), value (null if gathered), valid_from (null: no run is in the window), valid_to, runs (how many).
with said as materialized (
    select l.batch_id, l.row_no, l.op <> 'patch' or l.details ? substr(%(field)s, 9)
                                 or said_of_field(%(field)s, l.display_name, l.entity_type_id, null) is not null as is_about_it
    from ledger l
    where l.entity_uid = %(entity_uid)s
),
recording as (
    select batch_id, min(row_no) as row_no from said where is_about_it group by batch_id
    union all
    (select r.batch_id, null::integer
     from retraction r
     where r.of_batch_id in (select batch_id from said where is_about_it)
     union
     select batch_id, null from snapshot_effect where entity_uid = %(entity_uid)s)
),
looked_at as materialized (
    select b.recorded_at, b.actor, b.source, b.drop_sha256, d.file_name, r.row_no, b.request_id, count(*) over () as recordings
    from recording r
    join batch b on b.batch_id = r.batch_id
    left join drop_file d on d.sha256 = b.drop_sha256
    order by b.recorded_at desc
    limit (select least(%(most)s, greatest(%(fewest)s, %(most_folded)s / greatest(count(*), 1))) from said)
),
run as materialized (
    select l.recorded_at, r.value, r.valid_from, r.valid_to
    from (select max(recorded_at) as recorded_at from looked_at) l
    cross join field_runs(%(entity_uid)s) r
    where r.field = %(field)s
    union all
    select f.known_at, f.value, f.valid_from, f.valid_to
    from field_runs_as_known(%(entity_uid)s, %(field)s, array(select recorded_at from looked_at order by recorded_at desc offset 1)) f
),
whole as (
    select recorded_at, bit_xor(hash_record_extended(row (value, valid_from, valid_to), 0)) as digest from run group by recorded_at
),
gathered as (
    select r.recorded_at, case when count(*) = 1 then min(r.value) end as value, min(r.valid_from) as valid_from,
           nullif(max(coalesce(r.valid_to, 'infinity')), 'infinity') as valid_to, count(*) as runs
    from run r
    cross join (
        select since, until, greatest((until - since) / %(columns)s::integer, interval '1 microsecond') as step,
               (until - since) / %(parts)s::integer as shortest
        from (values (%(since)s::timestamptz, %(until)s::timestamptz)) as given (since, until)
    ) m
    cross join lateral (select coalesce(r.valid_to - r.valid_from < m.shortest, false)) as measured (is_short)
    where m.since is null or (r.valid_from < m.until and (r.valid_to > m.since or r.valid_to is null))
    group by r.recorded_at, is_short, case when is_short then date_bin(m.step, r.valid_from, m.since) else r.valid_from end
)
select l.*, w.digest, left(g.value, %(longest)s), g.valid_from, g.valid_to, g.runs
from looked_at l
left join whole w on w.recorded_at = l.recorded_at
left join gathered g on g.recorded_at = l.recorded_at
order by l.recorded_at desc, g.valid_from
