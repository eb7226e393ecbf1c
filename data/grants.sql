-- What the roles need that crm runs as, when another role owns its tables and runs `crm migrate`. Run as that owner, with psql:
--     psql -v writer=crm_app -v reader=crm_ro -f data/grants.sql DATABASE
-- The writer serves the API and takes drops in; each merge makes temporary tables for its work.
-- The reader can answer reads, reports and `crm check`.
set client_min_messages = error;  -- the functions of extensions are open to all already

grant connect, temporary on database :"DBNAME" to :"writer";
grant usage on schema public, known, single to :"writer";
grant select, insert, update, delete on all tables in schema public to :"writer";
grant select on all tables in schema known, single to :"writer";
grant usage on all sequences in schema public to :"writer";
grant execute on all functions in schema public, known, single to :"writer";

grant connect on database :"DBNAME" to :"reader";
grant usage on schema public, known to :"reader";
grant select on all tables in schema public, known to :"reader";
grant execute on all functions in schema public, known to :"reader";

-- And the same of what later migrations make.
alter default privileges in schema public grant select, insert, update, delete on tables to :"writer";
alter default privileges in schema public grant usage on sequences to :"writer";
alter default privileges in schema known, single grant select on tables to :"writer";
alter default privileges in schema public, known grant select on tables to :"reader";
