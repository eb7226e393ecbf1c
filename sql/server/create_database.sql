-- Create the product's database on the embedded server, with the locale that initdb gave its template.
-- In: nothing; outside a transaction. Out: nothing.
create database crm
