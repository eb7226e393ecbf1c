-- What was recorded or received last: as long as this stays the same, so does what follows from all versions and drops.
-- In: nothing. Out: recorded_at (of the last batch), first_seen_at (of the last drop), refused (drops).
select (select max(recorded_at) from batch), max(first_seen_at), count(*) filter (where status = 'refused') from drop_file
