-- Estimates which share of all changes has an op and states a detail of a type, from a hundred blocks of the ledger: whether to find
-- them from the batches or from the changes. Either finds the same. In: op, detail_type (null: any). Out: share, 0 to 1.
select (count(*) filter (
            where (%(op)s::text is null or op = %(op)s)
              and (%(detail_type)s::text is null or details ? %(detail_type)s)))::float / greatest(count(*), 1)
from ledger
tablesample system ((select 100 * 100.0 / greatest(relpages, 100) from pg_class where oid = 'ledger'::regclass))
