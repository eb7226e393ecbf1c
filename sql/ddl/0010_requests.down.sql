drop function request_change;
drop function if exists document_at;
drop table idempotency_key;
