-- Wait for all who are writing values of a detail type, and keep others from doing so until the transaction ends.
-- In: detail_type_id. Out: detail_type_id.
select detail_type_id from detail_type where detail_type_id = %(detail_type_id)s for update
