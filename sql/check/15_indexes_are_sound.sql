-- Every btree index has its entries in order and one for each row, if amcheck is installed and may be used.
-- In: nothing. Out: the names of the indexes to check.
select indexrelid::regclass::text
from pg_index
join pg_class c on c.oid = indexrelid
join pg_am a on a.oid = relam
where amname = 'btree' and relpersistence = 'p' and indisready and indisvalid
  and relnamespace = current_schema()::regnamespace
  and to_regprocedure('bt_index_check(regclass, boolean)') is not null
  and has_function_privilege(to_regprocedure('bt_index_check(regclass, boolean)')::oid, 'execute')
order by 1
