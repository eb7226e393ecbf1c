-- Return whether the current role may use the schema of the product's tables; true if it does not exist yet.
-- In: nothing. Out: one row: may.
select current_schema() is not null or to_regnamespace('public') is null
