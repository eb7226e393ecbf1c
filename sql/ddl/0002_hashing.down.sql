-- Drop the functions that recompute hashdiffs.
-- in: nothing; out: nothing

drop function detail_hashdiff(text, text, text);
drop function case_folded(text);
drop function entity_hashdiff(text, text);
drop function hashdiff(text, text);
