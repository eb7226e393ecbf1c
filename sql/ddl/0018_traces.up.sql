-- The trace (W3C Trace Context) of the request that sent a drop last, or let it in: Dagster's run that shows the drop is a part of it.
alter table drop_file add column traceparent text collate "C";
