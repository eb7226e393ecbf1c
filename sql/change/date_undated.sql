-- Date undated changes that are staged: at the moment of recording, and later than all that is known of their entity or staged.
-- In: lines, staged_change and ledger behind the locks of their entities. Out: staged_change.
update staged_change s
set change_ts = greatest(
    s.change_ts,
    last_instant(s.entity_uid) + interval '1 microsecond',
    (select max(o.change_ts) + interval '1 microsecond' from staged_change o
     where o.entity_uid = s.entity_uid and o.row_no <> all (%(lines)s::integer[])))
where s.row_no = any (%(lines)s::integer[])
