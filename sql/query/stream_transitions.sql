-- Return everything that changed within a window, one line each: the documents and the order of transitions.
-- In: from, to. Out: lines of JSON; it holds no control characters, so nothing is quoted.
copy (
select document from transitions(%(from)s, %(to)s) order by at, entity_uid
) to stdout (format csv, quote e'\x01', delimiter e'\x02')
