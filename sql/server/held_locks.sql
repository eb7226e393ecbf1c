-- Return the tables that this transaction has locked so that others wait.
-- In: nothing. Out: table, keeps_readers_out (otherwise only writers).
select relation::regclass::text, bool_or(mode = 'AccessExclusiveLock')
from pg_locks
join pg_class c on c.oid = relation
join pg_namespace n on n.oid = relnamespace
where pid = pg_backend_pid() and locktype = 'relation' and granted and relkind in ('r', 'p')
  and nspname !~ '^pg_' and nspname <> 'information_schema'
  and mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
group by relation
order by 1
