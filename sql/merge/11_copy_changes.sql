-- Take the accepted rows of a drop.
-- In: binary rows of the columns named. Out: staged_change.
copy staged_change (row_no, entity_uid, change_ts, op, display_name, entity_type_id, hashdiff,
                    detail_types, detail_values, detail_hashdiffs, source_id, source_key, key_uid) from stdin (format binary)
