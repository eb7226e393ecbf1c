-- Formatting holds no data.
drop function utc(timestamptz);
