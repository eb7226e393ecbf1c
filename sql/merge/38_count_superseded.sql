-- Counts the changes, of this drop or before, that this drop's last one at the same instant stands over.
-- In: touched, stage_change, ledger before this batch. Out: rows_superseded.
select (select count(*)
        from touched t
        join stage_change s on s.entity_uid = t.entity_uid
        where t.is_known or t.changes > 1)
     - (select count(*)
        from (
            select distinct s.entity_uid, s.change_ts
            from touched t
            join stage_change s on s.entity_uid = t.entity_uid
            where t.is_known or t.changes > 1
        ) instants
        where not exists (
            select from ledger l where l.entity_uid = instants.entity_uid and l.change_ts = instants.change_ts))
