-- Return the sums over all drops that were ever received, but for those that wait for a decision or were declined.
-- In: nothing. Out: the fields of Totals.
select count(*) filter (where status = 'merged') as drops_merged, count(*) filter (where status = 'refused') as drops_refused,
       count(*) filter (where status = 'seen') as drops_unfinished, count(*) filter (where status = 'undone') as drops_undone,
       (select count(*) from drop_file where status = 'held') as drops_held, coalesce(sum(entities_ended), 0)::bigint as entities_ended,
       coalesce(sum(rows_read), 0)::bigint as rows_read, coalesce(sum(rows_accepted), 0)::bigint as rows_accepted,
       coalesce(sum(rows_rejected), 0)::bigint as rows_rejected, coalesce(sum(rows_changed), 0)::bigint as rows_changed,
       coalesce(sum(rows_unchanged), 0)::bigint as rows_unchanged, coalesce(sum(rows_late), 0)::bigint as rows_late,
       coalesce(sum(rows_superseded), 0)::bigint as rows_superseded,
       coalesce(sum(entity_versions_added), 0)::bigint as entity_versions_added,
       coalesce(sum(detail_versions_added), 0)::bigint as detail_versions_added,
       coalesce(sum(rows_ending_nobody), 0)::bigint as rows_ending_nobody,
       coalesce(sum(rows_fallen_together), 0)::bigint as rows_fallen_together,
       (sum(rows_rejected) / nullif(sum(rows_read), 0))::float8 as reject_share
from drop_file
where status not in ('held', 'declined')
