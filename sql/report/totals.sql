-- All drops that ever came, added up.
-- In: nothing. Out: the fields of the totals.
select count(*) filter (where status = 'merged') as drops_merged, count(*) filter (where status = 'refused') as drops_refused,
       count(*) filter (where status = 'seen') as drops_unfinished, count(*) filter (where status = 'undone') as drops_undone,
       coalesce(sum(rows_read), 0)::bigint as rows_read, coalesce(sum(rows_accepted), 0)::bigint as rows_accepted,
       coalesce(sum(rows_rejected), 0)::bigint as rows_rejected, coalesce(sum(rows_changed), 0)::bigint as rows_changed,
       coalesce(sum(rows_unchanged), 0)::bigint as rows_unchanged, coalesce(sum(rows_late), 0)::bigint as rows_late,
       coalesce(sum(rows_superseded), 0)::bigint as rows_superseded,
       (sum(rows_rejected) / nullif(sum(rows_read), 0))::float8 as reject_share
from drop_file
