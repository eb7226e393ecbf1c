-- Where the walk of an audit can start, for entries of one entity: `since`, the earliest instant of what was recorded from the first entry
-- to the last; and the state just before it, by what was recorded before the first entry. What that consists of need not be walked.
-- Nothing if a batch was undone, or a snapshot does not list the entity: then all has to be walked.
-- In: entity_uid, first_batch and first_row (of the first entry), last_batch and last_row.
-- Out: since, display_name (null: the entity did not exist), entity_type, details.
with recursive start as (
    select min(change_ts) as since
    from ledger
    where entity_uid = %(entity_uid)s
      and (batch_id, row_no) >= (%(first_batch)s::bigint, %(first_row)s::integer) and (batch_id, row_no) <= (%(last_batch)s::bigint, %(last_row)s::integer)
),
before as not materialized (
    select change_ts, batch_id, row_no, op, display_name, entity_type_id, details
    from ledger
    where entity_uid = %(entity_uid)s and change_ts < (select since from start) and (batch_id, row_no) < (%(first_batch)s::bigint, %(first_row)s::integer)
      and promoted_by is null  -- otherwise it came in later, for nothing was undone by then
),
ended as (
    select change_ts, batch_id, row_no from before where op = 'delete' order by change_ts desc, batch_id desc, row_no desc limit 1
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
  and not exists (
      select from retraction r
      where r.batch_id <= %(last_batch)s::bigint
        and (exists (select from ledger l where l.batch_id = r.of_batch_id and l.entity_uid = %(entity_uid)s)
             or exists (select from snapshot s where s.batch_id = r.of_batch_id)))
  and not exists (
      select from snapshot s
      where s.batch_id <= %(last_batch)s::bigint
        and (select true from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = %(entity_uid)s limit 1) is null)
