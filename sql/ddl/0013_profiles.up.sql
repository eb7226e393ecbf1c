-- By which profile a drop was read: its name, and what it said then. A drop with a profile is known by a digest of both its bytes and
-- the profile, in the column sha256.
alter table drop_file add column profile text, add column profile_toml text,
    add constraint drop_file_profile_is_whole check ((profile is null) = (profile_toml is null));
