-- The first moments from which on a version differs, in order of entity_uid.
-- In: entity_difference, detail_difference, limit. Out: at, entity_uid.
select distinct at, entity_uid
from (
    select entity_uid, case action when 'end' then least(valid_to, old_to) else valid_from end as at from entity_difference
    union all
    select entity_uid, case action when 'end' then least(valid_to, old_to) else valid_from end from detail_difference
) differing
order by entity_uid, at
limit %(limit)s
