-- Count the rows of the ledger and of the versions: exactly, or by the planner's estimate if there are very many.
-- In: exact_below. Out: changes, entity_versions, detail_versions.
select case when ledger_rows < %(exact_below)s then (select count(*) from ledger) else ledger_rows end as changes,
       case when entity_rows < %(exact_below)s then (select count(*) from entity) else entity_rows end as entity_versions,
       case when detail_rows < %(exact_below)s then (select count(*) from entity_detail) else detail_rows end as detail_versions
from (
    select max(reltuples::bigint) filter (where oid = 'ledger'::regclass) as ledger_rows,
           max(reltuples::bigint) filter (where oid = 'entity'::regclass) as entity_rows,
           max(reltuples::bigint) filter (where oid = 'entity_detail'::regclass) as detail_rows
    from pg_class
) estimated
