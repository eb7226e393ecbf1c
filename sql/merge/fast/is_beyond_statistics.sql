-- Return whether a merge added so many versions that the planner's statistics no longer describe the tables.
-- In: added. Out: is_beyond.
select %(added)s >= 1000 and %(added)s > 0.5 * sum(greatest(reltuples, 0))
from pg_class
where oid in ('entity'::regclass, 'entity_detail'::regclass)
