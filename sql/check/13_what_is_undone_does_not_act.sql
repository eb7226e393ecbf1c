-- The changes and snapshots that act are those of batches that are not undone, and of repeats those that stand in the place of another.
-- In: uids (null: all entities). Out: one line a breach.
select format('change of entity %%s at %%s, of batch %%s, row %%s, %%s', l.entity_uid, l.change_ts, l.batch_id, l.row_no,
              case when l.acts then 'acts, and should not' else 'should act, and does not' end)
from ledger l
join ledger_as_known('infinity') k on k.entity_uid = l.entity_uid and k.change_ts = l.change_ts
    and k.batch_id = l.batch_id and k.row_no = l.row_no
where l.acts <> k.acts and (%(uids)s::uuid[] is null or l.entity_uid = any (%(uids)s))
union all
select format('snapshot of batch %%s %%s', batch_id, case when acts then 'acts, and should not' else 'should act, and does not' end)
from snapshot
where acts = (batch_id in (select of_batch_id from undone_batches('infinity')))
