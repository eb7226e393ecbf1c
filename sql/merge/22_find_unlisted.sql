-- Find the entities of the scope that exist just before a snapshot and are not listed by it.
-- In: at, its scope (entity_type_ids, or source_id); staged_change, staged_reject, entity. Out: unlisted_entity; the number of all
-- entities of the scope.
with existing as (
    select entity_uid, display_name, valid_to is null or valid_to > %(at)s as goes_on
    from entity e
    where valid_from < %(at)s and (valid_to >= %(at)s or valid_to is null)
      and (entity_type_id = any (%(entity_type_ids)s::smallint[]) or %(source_id)s::smallint is not null and (
          select true from named_by_source n
          where n.source_id = %(source_id)s::smallint and n.entity_uid = e.entity_uid and n.change_ts < %(at)s limit 1))
), unlisted as (
    insert into unlisted_entity (entity_uid, at, display_name, is_ending)
    select entity_uid, %(at)s, display_name,
           goes_on or exists (select from entity e where e.entity_uid = x.entity_uid and e.valid_from = %(at)s)
    from existing x
    where not exists (select from staged_change s where s.entity_uid = x.entity_uid)
      and not exists (select from staged_reject r where r.entity_uid = x.entity_uid)
)
select count(*) from existing
