-- What acts, and reads as known at an instant: the schema `known` has the names of the tables, so with it first in the search path the
-- same queries answer from the changes recorded up to the setting crm.known_at, and as if nothing had been undone since.

create or replace view known.named_by_source as
select source_id, entity_uid, change_ts, batch_id
from said_by_source n
where batch_id not in (select u.of_batch_id from undone_batches(current_setting('crm.known_at')::timestamptz) u)
  and (select b.recorded_at from batch b where b.batch_id = n.batch_id) <= current_setting('crm.known_at')::timestamptz;

-- Return the whole ledger, and whether each change acted as known at an instant: its batch was not undone; and what had been a
-- repeat stood in the place of what it repeats, for no earlier batch that was not undone said the same of that instant, or a
-- repeat before it in its batch was news of that instant so.
create or replace function ledger_as_known(known_at timestamptz) returns table (
    entity_uid uuid, change_ts timestamptz, batch_id bigint, row_no integer, op text,
    display_name text, entity_type_id smallint, details jsonb, acts boolean, promoted_by bigint)
language sql stable begin atomic
    select l.entity_uid, l.change_ts, l.batch_id, l.row_no, l.op, l.display_name, l.entity_type_id, l.details,
           l.batch_id not in (select u.of_batch_id from undone_batches(known_at) u)
           and (l.promoted_by is null
                or (select b.recorded_at from batch b where b.batch_id = l.promoted_by) <= known_at
                and exists (
                    select from ledger s
                    where s.entity_uid = l.entity_uid and s.change_ts = l.change_ts and s.batch_id = l.batch_id
                      and s.row_no <= l.row_no
                      and not exists (
                          select from ledger e
                          where e.entity_uid = l.entity_uid and e.change_ts = l.change_ts and e.batch_id < l.batch_id
                            and is_same_change(e.op, e.display_name, e.entity_type_id, e.details,
                                               s.op, s.display_name, s.entity_type_id, s.details)
                            and e.batch_id not in (select u.of_batch_id from undone_batches(known_at) u)))),
           l.promoted_by
    from ledger l;
end;

create or replace view known.ledger as
select l.* from ledger_as_known(current_setting('crm.known_at')::timestamptz) l
where (select b.recorded_at from batch b where b.batch_id = coalesce(l.promoted_by, l.batch_id))
      <= current_setting('crm.known_at')::timestamptz;  -- a look-up for each change, also where nested loops are off

create or replace view known.retraction as
select r.of_batch_id, r.batch_id, r.is_reinstated, r.reason
from retraction r
where (select b.recorded_at from batch b where b.batch_id = r.batch_id) <= current_setting('crm.known_at')::timestamptz;

create or replace view known.stated_change as
select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details from known.ledger where acts;

-- Return the snapshots that were known at an instant, and whether each acted. It is strict, so that it is planned alone and not as a
-- part of each fold.
create or replace function snapshots_as_known(known_at timestamptz)
returns table (batch_id bigint, at timestamptz, entity_type_ids smallint[], source_id smallint, acts boolean)
language sql stable strict rows 10 begin atomic
    select s.batch_id, s.at, s.entity_type_ids, s.source_id, s.batch_id not in (select u.of_batch_id from undone_batches(known_at) u)
    from snapshot s
    join batch b on b.batch_id = s.batch_id
    where b.recorded_at <= known_at;
end;

create or replace view known.snapshot as
select batch_id, at, entity_type_ids, source_id, acts from snapshots_as_known(current_setting('crm.known_at')::timestamptz);

create or replace view known.recorded_change as
select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details from known.stated_change
union all
select entity_uid, change_ts, 0, 0, 'delete', null, null, null from snapshot_ends();

-- Return whether a name has a part, in any case: `part` is a pattern of LIKE. It looks first for the plain letters of the part, which costs
-- a tenth of the search form, and before that without those of which the search form makes plain ones: 0131, 0130, 017F, 212A; those that
-- become 'ss', and 0307, which it drops.
create or replace function is_called(name text, part text) returns boolean language sql immutable parallel safe as $$
    select (lower(name collate "C") like regexp_replace(search_form(part), '[^a-hjl-rt-z0-9 ]+', '%', 'g')
            or name collate "C" like u&'%\0307%')
       and translate(lower(name collate "C"), u&'\0131\0130\017F\212A\0307', 'iisk')
           like regexp_replace(search_form(part), '(ss|[^a-z0-9 ])+', '%', 'g')
       and search_form(name) like search_form(part)
$$;

-- Return the entities of which any change says a name with a part, whether or not it was known or acts; each as often as it is said.
create or replace function ever_called(part text) returns table (entity_uid uuid) language sql stable parallel safe begin atomic
    select l.entity_uid from ledger l where is_called(l.display_name, part);
end;

create or replace view known.entity as
select entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, valid_to is null as is_current
from folded_entities();

create or replace view known.entity_detail as
select entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, valid_to is null as is_current
from folded_details();
