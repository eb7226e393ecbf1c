-- Leave the work tables of a snapshot to 90_drop_stage.
-- In, out: nothing.
select
