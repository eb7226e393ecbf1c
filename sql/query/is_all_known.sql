-- Whether nothing was recorded of an entity after an instant: no row, no undo of one, and no snapshot, which may end any entity.
-- In: entity_uid, known_at. Out: is_all_known.
select not exists (
           select from named_by_batch n
           join batch b on b.batch_id = n.batch_id
           where n.entity_uid = %(entity_uid)s and b.recorded_at > %(known_at)s)
   and not exists (
       select from retraction r
       join batch b on b.batch_id = r.batch_id
       where b.recorded_at > %(known_at)s
         and (exists (select from named_by_batch n where n.batch_id = r.of_batch_id and n.entity_uid = %(entity_uid)s)
              or exists (select from snapshot s where s.batch_id = r.of_batch_id)))
   and not exists (select from snapshot s join batch b on b.batch_id = s.batch_id where b.recorded_at > %(known_at)s)
