-- Lock batches until the transaction ends, so that nobody else undoes or reinstates one of them meanwhile.
-- In: batches. Out: nothing that is looked at.
select batch_id from batch where batch_id = any (%(batches)s::bigint[]) order by batch_id for update
