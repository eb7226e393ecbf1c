-- Wait for whoever writes values of a detail type, and let nobody begin to until the transaction ends.
-- In: detail_type_id. Out: detail_type_id.
select detail_type_id from detail_type where detail_type_id = %(detail_type_id)s for update
