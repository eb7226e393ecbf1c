-- Update the planner's statistics after a large merge, before anybody reads the tables: of the columns that reads select or sort by.
-- All columns and the expressions of indexes take 0.8 s of a first load of 200,000, these 0.5; autovacuum does the rest in time.
-- In, out: nothing.
analyze ledger (entity_uid, change_ts, batch_id, op),
        entity (entity_uid, display_name, entity_type_id, valid_from, valid_to, is_current),
        entity_detail (entity_uid, detail_type_id, hashdiff, valid_from, valid_to, is_current)
