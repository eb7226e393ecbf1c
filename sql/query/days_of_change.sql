-- The days on which something changed in the world: versions of entities or details began or ended.
-- In: time_zone (a name). Out: last_at (the last instant of a change on that day), begun, ended (how many versions), in order of time.
select max(last_at) as last_at, sum(begun)::bigint as begun, sum(ended)::bigint as ended
from (
    select date_trunc('day', valid_from, %(time_zone)s) as day, max(valid_from) as last_at, count(*) as begun, 0 as ended
    from entity
    group by day
    union all
    select date_trunc('day', valid_to, %(time_zone)s) as day, max(valid_to), 0, count(*) from entity where not is_current group by day
    union all
    select date_trunc('day', valid_from, %(time_zone)s) as day, max(valid_from), count(*), 0 from entity_detail group by day
    union all
    select date_trunc('day', valid_to, %(time_zone)s) as day, max(valid_to), 0, count(*) from entity_detail where not is_current group by day
) part
group by day
order by last_at
