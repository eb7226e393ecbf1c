-- Wait for all who are writing values, and keep others from doing so until the transaction ends.
-- In: detail_type_id. Out: detail_type_id.
select pg_advisory_xact_lock(3141592, 66), %(detail_type_id)s::smallint
