-- Create the database for Dagster's runs, beside the product's.
-- In: name, quoted; outside a transaction. Out: nothing.
create database {name}
