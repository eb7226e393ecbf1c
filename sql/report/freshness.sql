-- Return how old the newest drop and the newest change are.
-- In: now. Out: the fields of Freshness.
select drop_at, extract(epoch from %(now)s::timestamptz - drop_at)::float8 as drop_age_seconds,
       change_ts, extract(epoch from %(now)s::timestamptz - change_ts)::float8 as change_age_seconds
from (select max(first_seen_at) as drop_at from drop_file) newest_drop,
     (select max(change_ts) as change_ts from ledger) newest_change
