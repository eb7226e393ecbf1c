-- Read the detail types with these codes, and keep others from changing how their values compare until the transaction ends.
-- In: codes in lower case (null: all). Out: detail_type_id, code, name, description, is_active, compares, in order of code.
select detail_type_id, code, name, description, is_active, compares from hold_detail_types(%(codes)s::text[])
