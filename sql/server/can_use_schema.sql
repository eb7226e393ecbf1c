-- Return whether the role that asks may use the schema of the product's tables; one that is not there may be used.
-- In: nothing. Out: one row: may.
select current_schema() is not null or to_regnamespace('public') is null
