-- Takes out the changes that an earlier row of the same drop states word for word.
-- In: touched. Out: fewer rows in stage_change.
delete from stage_change s
using touched t, stage_change earlier
where t.changes > 1 and s.entity_uid = t.entity_uid
  and earlier.entity_uid = s.entity_uid and earlier.change_ts = s.change_ts and earlier.row_no < s.row_no
  and earlier.op = s.op
  and earlier.display_name is not distinct from s.display_name
  and earlier.entity_type_id is not distinct from s.entity_type_id
  and earlier.details is not distinct from s.details
