-- An entity's timeline ends only with a deletion, or a snapshot that does not list it.
-- In: uids (null: all entities). Out: one line for each breach.
select format('entity %%s ends at %%s without a deletion', entity_uid, valid_to)
from (
    select entity_uid, valid_to, lead(valid_from) over (partition by entity_uid order by valid_from) as follower_from
    from entity
    where %(uids)s::uuid[] is null or entity_uid = any (%(uids)s)
) neighbours
where valid_to is distinct from follower_from and valid_to is not null
  and not exists (
      select from ledger l
      where l.entity_uid = neighbours.entity_uid and l.change_ts = neighbours.valid_to and l.op = 'delete' and l.acts)
  and not exists (
      select from snapshot s
      where s.acts and s.at = neighbours.valid_to
        and not exists (select from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = neighbours.entity_uid))
