-- Merge helpers hold no data.
drop function set_indexes_aside();
drop function drop_stage(text);
drop function make_stage(text);
