-- Remove those from the repeats.
-- In: affected_change. Out: repeat.
delete from repeat r
using affected_change j
where j.is_kept
  and r.entity_uid = j.entity_uid and r.change_ts = j.change_ts and r.batch_id = j.batch_id and r.row_no = j.row_no
