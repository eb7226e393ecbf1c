-- Return which tables are distributed, or lie on all machines as a whole.
-- In: nothing. Out: name, kind (distributed, reference).
select relname::text, case when partmethod = 'h' then 'distributed' else 'reference' end
from pg_dist_partition
join pg_class c on c.oid = logicalrelid
where relnamespace = current_schema()::regnamespace and (partmethod = 'h' or repmodel = 't')
