-- Says whether nothing is known yet and the drop is large, so that its indexes are better built after it.
-- In: at_least (staged changes). Out: is_first_load.
select not exists (select from ledger) and not exists (select from entity) and not exists (select from entity_detail)
   and (select count(*) from stage_change) >= %(at_least)s
