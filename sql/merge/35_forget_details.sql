-- Takes out the details of the changes that were taken out; only entities whose changes are in order read them.
-- In: touched, stage_change. Out: fewer rows in stage_detail.
delete from stage_detail d
using touched t
where not t.is_refolded and d.entity_uid = t.entity_uid
  and not exists (select from stage_change s where s.entity_uid = d.entity_uid and s.row_no = d.row_no)
