-- Create the work table of accepted rows that may need a note for the sender: deletions, and rows whose uid was derived.
-- In, out: nothing.
create temporary table noted_row (line bigint, entity_uid uuid, change_ts timestamptz, is_deletion boolean) on commit drop
