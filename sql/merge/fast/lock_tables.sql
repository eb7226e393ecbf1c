-- Lock the tables for this transaction alone, or fail at once if anybody uses them.
-- In, out: nothing.
lock table ledger, entity, entity_detail in access exclusive mode nowait
