-- Make one change by request: under its conditions, once for its key, and answered with the entity as it then is.
-- In: the change's fields (change_ts null: now), actor, request_id, only_if (MD5 sums of documents, or '*'; null: no condition), key,
-- fingerprint; source_id, source_key and key_uid of one by the key of a source (null: none). Out: outcome, document, ended_at, was_replayed.
select outcome, document, ended_at, was_replayed
from request_change(%(entity_uid)s, %(change_ts)s, %(op)s, %(display_name)s, %(entity_type_id)s::smallint, %(hashdiff)s,
                    %(detail_types)s::text[], %(detail_values)s::text[], %(detail_hashdiffs)s::bytea[],
                    %(actor)s, %(request_id)s, %(only_if)s::text[], %(key)s, %(fingerprint)s,
                    %(source_id)s::smallint, %(source_key)s, %(key_uid)s)
