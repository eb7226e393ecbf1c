-- No collation that indexes were built by has changed with the operating system since.
-- In: nothing. Out: its name, the version they were built by and the one that the system now has, of each that has.
select distinct 'collation ' || c.oid::regcollation, collversion, pg_collation_actual_version(c.oid)
from pg_index
cross join unnest(indcollation) as used (collation_id)
join pg_collation c on c.oid = collation_id
where (select relnamespace from pg_class where oid = indexrelid) = current_schema()::regnamespace
  and collversion <> pg_collation_actual_version(c.oid)
