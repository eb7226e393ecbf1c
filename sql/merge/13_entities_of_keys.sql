-- Return which entities some keys name: by what was staged, by a link, or because the entity of their own is in use.
-- In: key_uids as the text of an array; stated_key, staged_change, source_key, ledger. Out: key_uid, entity_uid as texts, for those that name one.
with wanted as (
    select key_uid from unnest(%(key_uids)s::uuid[]) as given (key_uid)
)
select w.key_uid::text, coalesce(s.entity_uid, k.entity_uid, w.key_uid)::text
from wanted w
left join stated_key s on s.key_uid = w.key_uid
left join source_key k on k.key_uid = w.key_uid and k.entity_uid <> k.key_uid
left join (
    select distinct entity_uid from staged_change where entity_uid in (select key_uid from wanted)
) staged on staged.entity_uid = w.key_uid
left join lateral (
    select l.entity_uid from ledger l where l.entity_uid = w.key_uid and l.acts and l.op <> 'patch' limit 1
) recorded on true
where num_nonnulls(s.key_uid, k.key_uid, staged.entity_uid, recorded.entity_uid) > 0
