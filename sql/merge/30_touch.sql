-- Finds the entities that the drop names, and whether the ledger knows a change at or after the first of theirs.
-- In: stage_change, ledger. Out: touched.
insert into touched (entity_uid, since, changes, is_plain, is_known, is_refolded)
select entity_uid, since, changes, is_plain, is_known, is_known or not is_plain
from (
    select named.*, exists (
        select from ledger l where l.entity_uid = named.entity_uid and l.change_ts >= named.since) as is_known
    from (
        select entity_uid, min(change_ts) as since, count(*) as changes, bool_and(op = 'upsert') as is_plain
        from stage_change
        group by entity_uid
    ) named
) probed
