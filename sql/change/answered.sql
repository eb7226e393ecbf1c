-- What was answered to the request under a key.
-- In: actor, key. Out: fingerprint, document, none if the key is new.
select fingerprint, document from idempotency_key where actor = %(actor)s and key = %(key)s
