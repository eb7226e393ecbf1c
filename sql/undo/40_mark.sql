-- Mark which changes of the ledger act now.
-- In: affected_change. Out: ledger.
update ledger l
set acts = j.acts
from affected_change j
where not j.is_kept
  and l.entity_uid = j.entity_uid and l.change_ts = j.change_ts and l.batch_id = j.batch_id and l.row_no = j.row_no
