-- Says whether nothing is known yet.
-- In: nothing. Out: is_empty.
select not exists (select from ledger) and not exists (select from entity) and not exists (select from entity_detail)
