-- Keep which entities differ now because of a snapshot: before anything new that the batch says of them.
-- In: named_entity, entity_difference, detail_difference, ledger, batch_id. Out: snapshot_effect.
insert into snapshot_effect (entity_uid, batch_id, of_batch_id, at)
select n.entity_uid, %(batch_id)s, n.effect_of, differing.at
from named_entity n
join (
    select entity_uid, min(case action when 'end' then least(valid_to, old_to) else valid_from end) as at
    from (
        select entity_uid, action, valid_from, valid_to, old_to from entity_difference
        union all
        select entity_uid, action, valid_from, valid_to, old_to from detail_difference
    ) difference
    group by entity_uid
) differing on differing.entity_uid = n.entity_uid
where n.effect_of is not null
  and not exists (
      select from ledger l
      where l.batch_id = n.effect_of and l.entity_uid = n.entity_uid and l.change_ts <= differing.at)
order by n.entity_uid
