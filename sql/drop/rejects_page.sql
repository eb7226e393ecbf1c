-- Return a page of the rejected rows of a drop, in order of their lines.
-- In: sha256, limit, offset. Out: document.
select row_to_json(document)::text
from (
    select line, reasons, raw
    from reject
    where drop_sha256 = %(sha256)s
    order by line
    limit %(limit)s offset %(offset)s
) document
