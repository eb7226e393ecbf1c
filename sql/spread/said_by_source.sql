-- What the view said_by_source is on several machines: it looks no keys up, for Citus would fetch all that there are for it.
-- In: named_by_batch. Out: source_id, entity_uid, change_ts, batch_id.
select source_id, entity_uid, change_ts, batch_id from named_by_batch where source_id is not null
