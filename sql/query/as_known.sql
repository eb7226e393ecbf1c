-- Lets the queries that follow in this transaction answer as known at an instant: the schema `known` hides the tables.
-- A role that may not use it is refused here: the search path would pass over the schema, and the present answer.
-- In: known_at. Out: nothing.
select set_config('search_path', 'known, ' || current_setting('search_path'), true),
       set_config('crm.known_at', %(known_at)s, true),
       'known.entity'::regclass
