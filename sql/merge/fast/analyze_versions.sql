-- Tell the planner what a large merge brought, before anybody reads it.
-- In, out: nothing.
analyze ledger, entity, entity_detail
