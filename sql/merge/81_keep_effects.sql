-- Keep which entities that no row names differ now because of the snapshot.
-- In: unlisted_entity (of_batch_id null: the batch is the snapshot), entity_difference, detail_difference, batch_id. Out: snapshot_effect.
insert into snapshot_effect (entity_uid, batch_id, of_batch_id)
select u.entity_uid, %(batch_id)s, coalesce(u.of_batch_id, %(batch_id)s)
from unlisted_entity u
where exists (select from entity_difference d where d.entity_uid = u.entity_uid)
   or exists (select from detail_difference d where d.entity_uid = u.entity_uid)
order by u.entity_uid
