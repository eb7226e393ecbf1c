-- Takes the accepted rows of a drop.
-- In: CSV rows of the columns named. Out: nothing.
copy stage_change (row_no, entity_uid, change_ts, op, display_name, entity_type_id, details, hashdiff) from stdin (format csv)
