-- Return whether the product's database exists on the embedded server.
-- In: name. Out: one row: exists.
select exists (select from pg_database where datname = %(name)s)
