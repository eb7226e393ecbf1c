-- No collation that indexes were built with has changed with the operating system since.
-- In: nothing. Out: for each that has changed: its name, the version they were built with, and the system's version now.
select distinct 'collation ' || c.oid::regcollation, collversion, pg_collation_actual_version(c.oid)
from pg_index
cross join unnest(indcollation) as used (collation_id)
join pg_collation c on c.oid = collation_id
where (select relnamespace from pg_class where oid = indexrelid) = current_schema()::regnamespace
  and collversion <> pg_collation_actual_version(c.oid)
