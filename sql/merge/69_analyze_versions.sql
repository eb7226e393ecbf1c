-- Tells the planner what a first load brought, before anybody reads it.
-- In, out: nothing.
analyze ledger, entity, entity_detail
