-- Date undated changes that are staged: at the moment of recording, and later than all that is known of their entity or staged.
-- In: lines, staged_change and ledger behind the locks of their entities. Out: staged_change.
select date_undated(%(lines)s::integer[])
