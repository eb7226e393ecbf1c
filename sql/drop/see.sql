-- Remembers when a drop was first seen: the moment that its rows without a change_ts mean, so that a replay is a replay.
-- In: sha256, file_name, bytes, now. Out: nothing.
insert into drop_file (sha256, file_name, bytes, first_seen_at, status)
values (%(sha256)s, %(file_name)s, %(bytes)s, %(now)s, 'seen')
on conflict (sha256) do nothing
