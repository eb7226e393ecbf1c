-- Records why a drop was refused; one that was merged before stays merged.
-- In: sha256, file_name, bytes, now, error. Out: nothing.
insert into drop_file (sha256, file_name, bytes, first_seen_at, status, error)
values (%(sha256)s, %(file_name)s, %(bytes)s, %(now)s, 'refused', %(error)s)
on conflict (sha256) do update set status = 'refused', error = excluded.error
where drop_file.status <> 'merged'
