-- Makes the database that Dagster keeps its runs in, beside the product's.
-- In: name, quoted; outside a transaction. Out: nothing.
create database {name}
