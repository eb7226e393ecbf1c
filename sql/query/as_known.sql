-- Make the following queries of this transaction answer as known at an instant: the schema `known` hides the tables. The number of
-- rows of a fold is not known in advance, and a nested loop would fold repeatedly. A role that may not use the schema is refused here:
-- the search path would skip it, and the answer would be the present. In: known_at. Out: nothing.
select set_config('search_path', 'known, ' || current_setting('search_path'), true),
       set_config('crm.known_at', %(known_at)s, true),
       set_config('enable_nestloop', 'off', true),
       'known.entity'::regclass
