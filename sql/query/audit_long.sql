-- Which of some entities have more changes than `most`: only of these is it worth finding where the walk of an audit can start.
-- In: entity_uids, most. Out: entity_uid.
select entity_uid
from ledger
where entity_uid = any (%(entity_uids)s::uuid[])
group by entity_uid
having count(*) > %(most)s
