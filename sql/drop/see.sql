-- Record when a drop was first seen: its rows without a change_ts take effect then, also when the drop is replayed.
-- In: sha256, file_name, bytes, now, profile and profile_toml (null: the standard form). Out: nothing.
insert into drop_file (sha256, file_name, bytes, first_seen_at, status, profile, profile_toml)
values (%(sha256)s, %(file_name)s, %(bytes)s, %(now)s, 'seen', %(profile)s, %(profile_toml)s)
on conflict (sha256) do nothing
