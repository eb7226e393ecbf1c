-- Return all sources.
-- In: nothing. Out: source_id, code, name, description, is_active, in order of code.
select source_id, code, name, description, is_active from source order by code
