-- Keep what is answered to the request under a key, and forget what is older than a day.
-- In: actor, key, fingerprint, outcome, document. Out: nothing.
with forgotten as (
    delete from idempotency_key where answered_at < now() - interval '24 hours'
)
insert into idempotency_key (actor, key, fingerprint, outcome, document, answered_at)
values (%(actor)s, %(key)s, %(fingerprint)s, %(outcome)s, %(document)s, now())
