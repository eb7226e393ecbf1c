drop function request_change;
drop function document_at;
drop table idempotency_key;
