-- The traces of drops are no longer kept.
alter table drop_file drop column traceparent;
