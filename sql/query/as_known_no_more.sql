-- Make the following queries see the tables again; rolling a failed transaction back has the same effect.
-- In, out: nothing.
select set_config('search_path', regexp_replace(current_setting('search_path'), '^known, ', ''), true),
       set_config('enable_nestloop', 'on', true)
