-- Rejected rows of all drops, the newest drop first and within one by line. It walks the drops, and of each reads no more rows
-- than the page needs.
-- In: drop (a SHA-256, or a part of the name of a file; null: any), reason (null: any), after_at, after_sha256 and after_line
-- (null: from the start), limit. Out: document, first_seen_at, sha256, line.
select row_to_json(document)::text, d.first_seen_at, d.sha256, r.line
from drop_file d
cross join lateral (
    select line, reasons, raw
    from reject
    where drop_sha256 = d.sha256
      and (%(reason)s::text is null or %(reason)s = any (reasons))
      and line > case when d.sha256 = %(after_sha256)s::text then %(after_line)s::bigint else -1 end
    order by line
    limit %(limit)s
) r
cross join lateral (
    select d.sha256, d.file_name as file, utc(d.first_seen_at) as first_seen_at, r.line, r.reasons, r.raw
) document
where (%(drop)s::text is null or d.sha256 = %(drop)s or position(search_form(%(drop)s) in search_form(d.file_name)) > 0)
  and (%(after_sha256)s::text is null
       or d.first_seen_at < %(after_at)s::timestamptz
       or (d.first_seen_at = %(after_at)s::timestamptz and d.sha256 >= %(after_sha256)s))
order by d.first_seen_at desc, d.sha256, r.line
limit %(limit)s
