-- Return whether nothing is known yet and the drop is large, so that its indexes are better built after it, and whether they are ours.
-- In: at_least (staged changes). Out: is_first_load.
select owns_the_tables()
   and not exists (select 1 from ledger limit 1) and not exists (select 1 from entity limit 1)
   and not exists (select 1 from entity_detail limit 1)
   and (select count(*) from staged_change) >= %(at_least)s
