-- Drops forget by which profile they were read.
alter table drop_file drop column profile, drop column profile_toml;
