-- Update the planner's statistics after a large merge, before anybody reads the tables.
-- In, out: nothing.
analyze ledger, entity, entity_detail
