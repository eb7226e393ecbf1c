-- Return whether the drop is large and makes the tables many times larger, so that it is better to build their indexes
-- afterwards, and whether this role owns them. In: at_least (staged changes). Out: is_bulk_load.
select owns_the_tables() and staged >= %(at_least)s
   and not exists (select 1 from entity offset staged / 5 limit 1)
   and not exists (select 1 from entity_detail offset staged / 2 limit 1)
from (select count(*) as staged from staged_change) stage
