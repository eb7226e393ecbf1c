-- Return the header of a drop, unchanged, and the profile that it was read by.
-- In: sha256. Out: header, null if no row was rejected and empty of lines of JSON; profile and profile_toml, null for the standard
-- form; no row if no such drop was ever received.
select header, profile, profile_toml from drop_file where sha256 = %(sha256)s
