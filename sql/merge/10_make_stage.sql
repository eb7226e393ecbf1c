-- Makes the schema of one merge and puts it first in the search path of the transaction.
-- In: stage. Out: nothing.
select make_stage(%(stage)s)
