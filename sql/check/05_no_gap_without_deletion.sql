-- An entity's timeline ends only with a deletion, or a snapshot that does not list it.
-- In: uids (null: all entities). Out: one line for each breach.
select format('entity %%s ends at %%s without a deletion', entity_uid, valid_to)
from (
    select entity_uid, valid_to, lead(valid_from) over (partition by entity_uid order by valid_from) as follower_from
    from entity
    where %(uids)s::uuid[] is null or entity_uid = any (%(uids)s)
) neighbours
left join snapshot s on s.acts and s.at = neighbours.valid_to
    and (select true from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = neighbours.entity_uid limit 1) is null
where s.batch_id is null and valid_to is distinct from follower_from and valid_to is not null
  and not exists (
      select from ledger l
      where l.entity_uid = neighbours.entity_uid and l.change_ts = neighbours.valid_to and l.op = 'delete' and l.acts)
