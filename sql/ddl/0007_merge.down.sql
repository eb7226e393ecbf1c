-- Merge helpers hold no data.
drop function record_change(uuid, timestamptz, text, text, smallint, jsonb, text, text, text);
drop function extend_versions(uuid, timestamptz, text, text, smallint, jsonb);
drop schema single cascade;
drop function set_indexes_aside();
drop function drop_stage(text);
drop function make_stage(text);
drop function make_difference();
drop function make_reopened();
