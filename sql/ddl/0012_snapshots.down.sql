-- The place of the step that brings snapshots.
-- Nothing yet.
select 1;
