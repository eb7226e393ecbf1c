-- Count the current entities that match a filter, up to a number of them.
-- In: like (pattern, null: any), entity_type_id (null: any), at_most (null: all). Out: count.
select count(*)
from (
    select
    from entity
    where is_current
      and (%(like)s::text is null or search_form(display_name) like search_form(%(like)s))
      and (%(entity_type_id)s::smallint is null or entity_type_id = %(entity_type_id)s)
    limit %(at_most)s
) counted
