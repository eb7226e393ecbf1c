-- Delete the answers that were kept for an Idempotency-Key and are older than a day.
-- In: now. Out: nothing.
delete from idempotency_key where answered_at < %(now)s::timestamptz - interval '24 hours'
