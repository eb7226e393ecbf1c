-- Lock batches until the transaction ends, so that nobody else undoes or reinstates one of them meanwhile; and use one connection for each
-- machine from now on. In: batches. Out: nothing that is looked at.
select lock_batches(%(batches)s::bigint[])
