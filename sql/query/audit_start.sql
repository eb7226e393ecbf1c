-- Where the walk of an audit can start, for entries of one entity: `since`, the earliest instant of what was recorded from the first entry
-- to the last; and the state just before it, by what was recorded before the first entry. What that consists of need not be walked.
-- A snapshot that does not list the entity ends it before its instant if it has the type said last, or does not exist then.
-- Nothing if such a snapshot is of a source, if a batch was undone that names the entity, or is a snapshot, or if a value of the state is
-- spelled in several ways: then all has to be walked.
-- In: entity_uid, first_batch and first_row (of the first entry), last_batch and last_row.
-- Out: since, display_name (null: the entity did not exist), entity_type, details.
with recursive unlisted as materialized (
    select s.at, s.batch_id, s.entity_type_ids, s.source_id
    from snapshot s
    where s.batch_id <= %(last_batch)s::bigint
      and (select true from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = %(entity_uid)s limit 1) is null
),
start as (
    select least(min(change_ts), (select min(at) from unlisted where batch_id >= %(first_batch)s::bigint)) as since
    from ledger
    where entity_uid = %(entity_uid)s
      and (batch_id + 0, row_no) >= (%(first_batch)s::bigint, %(first_row)s::integer)  -- + 0: found by the entity, not by the batch
      and (batch_id + 0, row_no) <= (%(last_batch)s::bigint, %(last_row)s::integer)
),
before as not materialized (
    select change_ts, batch_id, row_no, op, display_name, entity_type_id, details
    from ledger
    where entity_uid = %(entity_uid)s and change_ts < (select since from start)
      and (batch_id + 0, row_no) < (%(first_batch)s::bigint, %(first_row)s::integer)
      and promoted_by is null  -- otherwise it came in later, for nothing was undone by then
),
ended as (
    (select change_ts, batch_id, row_no from before where op = 'delete' order by change_ts desc, batch_id desc, row_no desc limit 1)
    union all
    select u.at, 0, 0
    from unlisted u
    where u.batch_id < %(first_batch)s::bigint and u.at < (select since from start)
      and (select b.entity_type_id
           from before b
           where b.change_ts < u.at and b.entity_type_id is not null
           order by b.change_ts desc, b.batch_id desc, b.row_no desc
           limit 1) = any (u.entity_type_ids)
    order by change_ts desc, batch_id desc, row_no desc
    limit 1
),
began as (
    select change_ts, batch_id, row_no
    from before
    where op = 'upsert'
      and (change_ts, batch_id, row_no) > (coalesce((select change_ts from ended), '-infinity'),
                                           coalesce((select batch_id from ended), 0), coalesce((select row_no from ended), 0))
    order by change_ts, batch_id, row_no
    limit 1
),
said as (  -- backwards, each time to what says something of a field of which nothing later says anything
    select since as change_ts, 0::bigint as batch_id, 0 as row_no,
           null::text collate "C" as display_name, null::smallint as entity_type_id, '{}'::jsonb as details
    from start
    where exists (select from began)
    union all
    select l.change_ts, l.batch_id, l.row_no, coalesce(s.display_name, l.display_name), coalesce(s.entity_type_id, l.entity_type_id),
           coalesce(l.details, '{}') || s.details
    from said s
    cross join lateral (
        select b.*
        from before b
        where (b.change_ts, b.batch_id, b.row_no) < (s.change_ts, s.batch_id, s.row_no)
          and (b.change_ts, b.batch_id, b.row_no)
              >= ((select change_ts from began), (select batch_id from began), (select row_no from began))
          and (s.display_name is null and b.display_name is not null or s.entity_type_id is null and b.entity_type_id is not null
               or b.details || s.details <> s.details)
        order by b.change_ts desc, b.batch_id desc, b.row_no desc
        limit 1
    ) l
)
select start.since, known.display_name, et.code, known.details
from start
left join (select * from said order by change_ts, batch_id, row_no limit 1) known on true
left join entity_type et on et.entity_type_id = known.entity_type_id
where start.since is not null
  and not exists (select from unlisted where source_id is not null)
  and not exists (  -- the state has the spelling that was asserted last, not the first of those that compare equal
      select from detail_type t
      join before b on b.details ->> t.code <> known.details ->> t.code
      where t.compares = 'casefold' and case_folded(b.details ->> t.code) = case_folded(known.details ->> t.code))
  and not exists (
      select from retraction r
      where r.batch_id <= %(last_batch)s::bigint
        and (exists (select from ledger l where l.batch_id = r.of_batch_id and l.entity_uid = %(entity_uid)s)
             or exists (select from repeat l where l.batch_id = r.of_batch_id and l.entity_uid = %(entity_uid)s)
             or exists (select from snapshot s where s.batch_id = r.of_batch_id)))
