-- Return which tables or views with some names exist in the schema that the product would use.
-- In: names. Out: name, in the order of the names.
select name
from unnest(%(names)s::text[]) with ordinality as wanted (name, position)
where to_regclass(quote_ident(current_schema()) || '.' || name) is not null
order by position
