-- Find the entities that exist just before snapshots among the batches, of their scope and not listed: their ends may go, or come again.
-- In: batches, snapshot, entity. Out: unlisted_entity.
insert into unlisted_entity (entity_uid, of_batch_id, at)
select e.entity_uid, s.batch_id, s.at
from snapshot s
join entity e on e.valid_from < s.at and (e.valid_to >= s.at or e.valid_to is null) and e.entity_type_id = any (s.entity_type_ids)
where s.batch_id = any (%(batches)s::bigint[])
  and (select true from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = e.entity_uid limit 1) is null
