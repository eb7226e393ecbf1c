-- Count the changes, in this drop or recorded before, that a later recorded one at the same instant supersedes.
-- In: named_entity, staged_change, ledger before this batch. Out: rows_superseded.
select (select count(*)
        from named_entity n
        join staged_change s on s.entity_uid = n.entity_uid
        where n.has_tie or n.changes > 1)
     - (select count(*)
        from (
            select distinct s.entity_uid, s.change_ts
            from named_entity n
            join staged_change s on s.entity_uid = n.entity_uid
            where n.has_tie or n.changes > 1
        ) instants
        where not exists (
            select 1 from ledger l where l.entity_uid = instants.entity_uid and l.change_ts = instants.change_ts and l.acts))
