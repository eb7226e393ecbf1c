-- Record when a drop was first seen: its rows without a change_ts take effect then, also when the drop is replayed; of a snapshot they
-- take effect at its instant.
-- In: sha256, file_name, bytes, now; content_sha256 (of the bytes alone, if that is another), scope and at (of a snapshot; at null:
-- now), profile and profile_toml (null: the standard form), traceparent (of the request, if it has one). Out: nothing.
insert into drop_file as f (sha256, file_name, bytes, first_seen_at, status, content_sha256, mode, scope, snapshot_at, profile,
                            profile_toml, traceparent)
values (%(sha256)s, %(file_name)s, %(bytes)s, %(now)s, 'seen', %(content_sha256)s,
        case when %(scope)s::text is null then 'delta' else 'snapshot' end, %(scope)s,
        case when %(scope)s::text is not null then coalesce(%(at)s::timestamptz, %(now)s) end, %(profile)s, %(profile_toml)s,
        %(traceparent)s)
on conflict (sha256) do update set traceparent = excluded.traceparent
where f.status <> 'merged' and f.traceparent is distinct from excluded.traceparent
