-- Takes the details that the accepted rows list.
-- In: CSV rows of the columns named. Out: nothing.
copy stage_detail (row_no, entity_uid, change_ts, detail_type_id, detail_value, hashdiff) from stdin (format csv)
