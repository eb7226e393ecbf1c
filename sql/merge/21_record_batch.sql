-- Draws the batch: the place of this transaction in recording order, and its moment, later than any before it whatever
-- the clock does.
-- In: actor, source, drop_sha256, request_id. Out: batch_id, recorded_at.
insert into batch (recorded_at, actor, source, drop_sha256, request_id)
values (greatest(clock_timestamp(), (select max(recorded_at) from batch) + interval '1 microsecond'),
        %(actor)s, %(source)s, %(drop_sha256)s, %(request_id)s)
returning batch_id, recorded_at
