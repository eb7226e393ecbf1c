-- Let the names in what is made next be those of a schema.
-- In: {schema}. Out: nothing.
select set_config('search_path', '{schema}, ' || current_setting('search_path'), true)
