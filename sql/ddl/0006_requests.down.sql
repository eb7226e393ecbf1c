-- Going below this revision forgets the answers to keyed requests: the same request again is made again.
drop table idempotency_key;
