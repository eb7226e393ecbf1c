-- The instants at which something of one entity changes, in order; if there are more than `most`, that many of them, evenly spread.
-- In: entity_uid, most (2 or more). Out: at.
select at
from (
    select at, row_number() over (order by at) - 1 as place, count(*) over () - 1 as last
    from (
        select distinct moment.at
        from field_runs(%(entity_uid)s) r
        cross join lateral (values (r.valid_from), (r.valid_to)) as moment (at)
        where moment.at is not null
    ) moments
) placed
where place = 0 or last < %(most)s or place * (%(most)s - 1) / last > (place - 1) * (%(most)s - 1) / last
order by at
