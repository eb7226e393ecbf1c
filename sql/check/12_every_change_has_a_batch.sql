-- Every change of the ledger says who recorded it and when.
-- In: uids (null: all entities). Out: one line for each breach.
select format('change of entity %%s at %%s names batch %%s, which is not recorded', l.entity_uid, l.change_ts, l.batch_id)
from ledger l
left join batch b on b.batch_id = l.batch_id
where b.batch_id is null and (%(uids)s::uuid[] is null or l.entity_uid = any (%(uids)s))
