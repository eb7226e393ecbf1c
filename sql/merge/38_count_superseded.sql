-- Counts the changes, of this drop or before, that this drop's last one at the same instant stands over.
-- In: touched, stage_change, ledger before this batch. Out: rows_superseded.
select coalesce(sum(changes - case when is_first then 1 else 0 end), 0)::bigint
from (
    select count(*) as changes, not exists (
        select from ledger l where l.entity_uid = s.entity_uid and l.change_ts = s.change_ts) as is_first
    from touched t
    join stage_change s on s.entity_uid = t.entity_uid
    where t.is_known or t.changes > 1
    group by s.entity_uid, s.change_ts
) instants
