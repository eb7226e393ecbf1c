-- The entities that had at some time a name with a part, some of them if there are very many.
-- In: like (a pattern), limit. Out: entity_uid.
select entity_uid
from (
    select entity_uid from entity where is_current and search_form(display_name) like search_form(%(like)s)
    union all
    select entity_uid from entity where not is_current and search_form(display_name) like search_form(%(like)s)
) named
limit %(limit)s
