-- Makes a database for one tool that is compared, so that none meets what another left.
-- In: name, quoted; outside a transaction. Out: nothing.
create database {name}
