-- Counts the changes that are older than what the ledger knows of their entity.
-- In: touched, stage_change, ledger before this batch. Out: rows_late.
select count(*)
from touched t
join stage_change s on s.entity_uid = t.entity_uid
where t.is_known
  and exists (select from ledger l where l.entity_uid = s.entity_uid and l.change_ts > s.change_ts)
