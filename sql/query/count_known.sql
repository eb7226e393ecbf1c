-- Counts the entities that existed at an instant as known at another, up to a number of them, without a fold: those whose last
-- change but for patches is no deletion. It reads the ledger itself, backwards along its key, so nothing is sorted.
-- In: as_of, known_at, at_most (null: all). Out: count.
select count(*)
from (
    select
    from (
        select distinct on (entity_uid) op
        from ledger_as_known(%(known_at)s)
        where acts and change_ts <= %(as_of)s and op <> 'patch'
          and batch_id not in (select batch_id from batch where recorded_at > %(known_at)s)
        order by entity_uid desc, change_ts desc, batch_id desc, row_no desc
    ) last
    where op <> 'delete'
    limit %(at_most)s
) counted
