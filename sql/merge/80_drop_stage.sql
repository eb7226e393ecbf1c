-- Removes the schema of one merge with its staging and work tables.
-- In: stage. Out: nothing.
select drop_stage(%(stage)s)
