-- Return whether any entity has, or had, a value of a detail type.
-- In: detail_type_id. Out: one row: has_values.
select exists (select from entity_detail where detail_type_id = %(detail_type_id)s)
