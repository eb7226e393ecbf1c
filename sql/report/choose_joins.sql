-- Tells the planner what it cannot know of batches since its last statistics: a large share of the ledger is joined by hashing.
-- In: batch_ids. Out: a setting, until the transaction is rolled back.
select set_config('enable_nestloop', case when 20 * sum(rows_accepted) filter (where batch_id = any (%(batch_ids)s::bigint[]))
                                               > sum(rows_accepted) then 'off' else 'on' end, true)
from drop_file
