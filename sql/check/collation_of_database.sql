-- Return the database's own collation if it has changed; PostgreSQL 14 does not store its version.
-- In: nothing. Out: as 16_collations_are_unchanged.
select 'database ' || quote_ident(datname), datcollversion, pg_database_collation_actual_version(oid)
from pg_database
where datname = current_database() and datcollversion <> pg_database_collation_actual_version(oid)
