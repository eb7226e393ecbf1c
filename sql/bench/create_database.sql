-- Create a database for one of the compared tools, so that none finds what another left.
-- In: name, quoted; outside a transaction. Out: nothing.
create database {name}
