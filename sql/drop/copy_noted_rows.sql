-- Take rows that may need a note for the sender.
-- In: rows of the columns named. Out: noted_row.
copy noted_row (line, entity_uid, change_ts, is_deletion) from stdin
