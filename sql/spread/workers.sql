-- Count the machines that hold parts of the tables.
-- In: nothing. Out: workers.
select count(*) from citus_get_active_worker_nodes()
