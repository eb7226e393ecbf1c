-- Return all net changes between two instants, one line each: the documents and the order of diff.
-- In: from, to. Out: lines of JSON; it holds no control characters, so nothing is quoted.
copy (
select document from net_changes(%(from)s, %(to)s) order by entity_uid
) to stdout (format csv, quote e'\x01', delimiter e'\x02')
