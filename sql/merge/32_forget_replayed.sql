-- Takes out the changes that are the last of the ledger, word for word.
-- In: touched. Out: fewer rows in stage_change.
delete from stage_change s
using touched t
where t.is_replayed and s.entity_uid = t.entity_uid
