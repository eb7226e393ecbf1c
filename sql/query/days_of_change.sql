-- The days on which something changed in the world: versions of entities or details began or ended.
-- In: time_zone (a name). Out: last_at (the last instant of a change on that day), begun, ended (how many versions), in order of time.
select max(at) as last_at, sum(begun)::bigint as begun, sum(ended)::bigint as ended
from (
    select valid_from as at, count(*) as begun, 0 as ended from entity group by valid_from
    union all
    select valid_to, 0, count(*) from entity where not is_current group by valid_to
    union all
    select valid_from, count(*), 0 from entity_detail group by valid_from
    union all
    select valid_to, 0, count(*) from entity_detail where not is_current group by valid_to
) moments
group by date_trunc('day', at, %(time_zone)s)
order by last_at
