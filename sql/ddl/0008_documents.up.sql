-- How an instant is written in every answer: ISO 8601 in UTC, with microseconds where there are any.
create function utc(instant timestamptz) returns text language sql stable parallel safe
return replace(to_char(instant at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000Z', 'Z');
