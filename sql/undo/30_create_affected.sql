-- Create the work table of the changes that begin to act, or act no more; `is_kept`: it is in `repeat`, and says what another says.
-- In, out: nothing.
create temporary table affected_change (
    entity_uid uuid, change_ts timestamptz, batch_id bigint, row_no integer, acts boolean,
    is_kept boolean, of_batch_id bigint, of_row_no integer) on commit drop
