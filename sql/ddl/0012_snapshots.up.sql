-- The place of the step that brings snapshots, which another change fills.
-- Nothing yet.
select 1;
