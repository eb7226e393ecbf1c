-- A place that is kept.
select 1;
