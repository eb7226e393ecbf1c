-- Lets the queries that follow see the tables again; a transaction that fails before is rolled back to the same end.
-- In, out: nothing.
select set_config('search_path', regexp_replace(current_setting('search_path'), '^known, ', ''), true),
       set_config('enable_nestloop', 'on', true)
