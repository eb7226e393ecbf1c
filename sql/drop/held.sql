-- Find what a held drop was sent as.
-- In: sha256. Out: status, file_name, content_sha256, scope, snapshot_at, is_strict, profile, profile_toml; no row if no such drop was ever received.
select f.status, f.file_name, coalesce(f.content_sha256, f.sha256), f.scope, f.snapshot_at, h.is_strict, f.profile, f.profile_toml
from drop_file f
left join held_drop h on h.drop_sha256 = f.sha256
where f.sha256 = %(sha256)s
