-- Let the queries that follow in this transaction answer as known at an instant: the schema `known` hides the tables. How many
-- rows a fold has is not known before, and a nested loop would fold as often. A role that may not use the schema is refused here:
-- the search path would pass over it, and the present would answer. In: known_at. Out: nothing.
select set_config('search_path', 'known, ' || current_setting('search_path'), true),
       set_config('crm.known_at', %(known_at)s, true),
       set_config('enable_nestloop', 'off', true),
       'known.entity'::regclass
