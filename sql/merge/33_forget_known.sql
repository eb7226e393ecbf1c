-- Takes out the changes that the ledger holds further back, word for word: a replay changes nothing.
-- In: touched, ledger. Out: fewer rows in stage_change.
delete from stage_change s
using touched t, ledger l
where t.is_known and not t.is_replayed and s.entity_uid = t.entity_uid
  and l.entity_uid = s.entity_uid and l.change_ts = s.change_ts and l.op = s.op
  and l.display_name is not distinct from s.display_name
  and l.entity_type_id is not distinct from s.entity_type_id
  and l.details is not distinct from s.details
