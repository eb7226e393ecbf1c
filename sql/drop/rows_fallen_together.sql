-- Count the rows without a uid that say the same as an earlier row, and so are the same entity.
-- In: noted_row, limit. Out: the number, and the lines of the first ones.
select count(*), (array_agg(line order by line))[:%(limit)s]
from (
    select line, row_number() over (partition by entity_uid order by line) as number
    from noted_row
    where not is_deletion
) said
where number > 1
