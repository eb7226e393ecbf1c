-- Let names be those of the tables again.
-- In, out: nothing.
select set_config('search_path', regexp_replace(current_setting('search_path'), '^(known|single), ', ''), true)
