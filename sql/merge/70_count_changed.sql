-- Counts the instants of the drop's changes at which a timeline now differs: one standing change an instant.
-- In: stage_change, entity_diff, detail_diff. Out: rows_changed.
select count(*)
from (
    select entity_uid, change_ts from stage_change
    intersect (
        select entity_uid, valid_from from entity_diff
        union all
        select entity_uid, valid_to from entity_diff where action in ('open', 'swap')
        union all
        select entity_uid, valid_from from detail_diff
        union all
        select entity_uid, valid_to from detail_diff where action in ('open', 'swap')
    )
) changed
