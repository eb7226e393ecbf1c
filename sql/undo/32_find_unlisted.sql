-- Find the entities that may end at a snapshot, or end there no more: those that exist just before snapshots among the batches, of their
-- scope and not listed; and those that the batches alone name for the source of a snapshot: they come into its scope or leave it.
-- In: batches, snapshot, ledger, repeat, entity. Out: unlisted_entity.
insert into unlisted_entity (entity_uid, of_batch_id, at)
select e.entity_uid, s.batch_id, s.at
from snapshot s
join entity e on e.valid_from < s.at and (e.valid_to >= s.at or e.valid_to is null)
    and (e.entity_type_id = any (s.entity_type_ids) or s.source_id is not null and (
        select true from named_by_source n
        where n.source_id = s.source_id and n.entity_uid = e.entity_uid and n.change_ts < s.at limit 1))
where s.batch_id = any (%(batches)s::bigint[])
  and (select true from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = e.entity_uid limit 1) is null
union all
select n.entity_uid, n.batch_id, (
           select min(s.at) from snapshot s where s.source_id = n.source_id and s.at > n.change_ts)
from (
    select entity_uid, batch_id, source_id, change_ts from ledger where batch_id = any (%(batches)s::bigint[])
    union all
    select entity_uid, batch_id, source_id, change_ts from repeat where batch_id = any (%(batches)s::bigint[])
) n
where exists (select from snapshot where source_id is not null)  -- otherwise the batches are not even read
  and (select max(s.at) from snapshot s where s.source_id = n.source_id) > n.change_ts
  and (select true from named_by_source o
       where o.source_id = n.source_id and o.entity_uid = n.entity_uid and o.change_ts <= n.change_ts
         and o.batch_id <> all (%(batches)s::bigint[]) limit 1) is null
