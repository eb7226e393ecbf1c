-- Return which entities some keys name: by what was staged, by a link, or because the entity of their own is in use.
-- In: key_uids as the text of an array; stated_key, staged_change, source_key, ledger. Out: key_uid, entity_uid as texts, for those that
-- name one.
with wanted as materialized (
    select key_uid from unnest(%(key_uids)s::uuid[]) as given (key_uid)
),
staged as materialized (
    select distinct entity_uid from staged_change where entity_uid = any (%(key_uids)s::uuid[])
),
recorded as materialized (
    select distinct entity_uid from ledger where entity_uid = any (%(key_uids)s::uuid[]) and acts and op <> 'patch'
),
stated as materialized (
    select key_uid, entity_uid from stated_key where key_uid = any (%(key_uids)s::uuid[])
)
select w.key_uid::text, coalesce(s.entity_uid, k.entity_uid, w.key_uid)::text
from wanted w
left join stated s on s.key_uid = w.key_uid
left join source_key k on k.key_uid = w.key_uid and k.entity_uid <> k.key_uid
left join staged on staged.entity_uid = w.key_uid
left join recorded on recorded.entity_uid = w.key_uid
where num_nonnulls(s.key_uid, k.key_uid, staged.entity_uid, recorded.entity_uid) > 0
