-- Read a page of a list where its entities are, after it was found.
-- In: {page}, which finds it, {joins}, {then}, which versions hold, {order}. Out: the end of a statement of sql/query.
from entity e
{joins}
where {then}
  and e.entity_uid = any (array(select entity_uid from (
{page}
) page))
{order}
