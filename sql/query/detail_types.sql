-- Return all detail types.
-- In: nothing. Out: detail_type_id, code, name, description, is_active, compares, in order of code.
select detail_type_id, code, name, description, is_active, compares from detail_type order by code
