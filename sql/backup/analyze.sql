-- Take statistics of all tables: a restored database has none, and the planner would guess.
-- In, out: nothing.
analyze
