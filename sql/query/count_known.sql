-- Counts the entities that existed at an instant as known at another, up to a number of them, without a fold: those whose last
-- change that acts, but for patches, is no deletion. In: as_of, at_most (null: all). Out: count.
select count(*)
from (
    select
    from (
        select distinct on (entity_uid) op
        from recorded_change
        where change_ts <= %(as_of)s and op <> 'patch'
        order by entity_uid desc, change_ts desc, batch_id desc, row_no desc
    ) last
    where op <> 'delete'
    limit %(at_most)s
) counted
