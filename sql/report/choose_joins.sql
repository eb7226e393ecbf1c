-- Choose hash joins if the batches are a large share of the ledger, because the planner's statistics may be older than they are.
-- In: batch_ids. Out: a setting, until the transaction is rolled back.
select set_config('enable_nestloop', case when 20 * sum(rows_accepted) filter (where batch_id = any (%(batch_ids)s::bigint[]))
                                               > sum(rows_accepted) then 'off' else 'on' end, true)
from drop_file
