-- Return which entities some keys name: by what was staged, by a link, or because the entity of their own is in use.
-- In: key_uids. Out: key_uid, entity_uid, for those that name one.
select w.key_uid, coalesce(s.entity_uid, k.entity_uid, w.key_uid)
from unnest(%(key_uids)s::uuid[]) as w (key_uid)
left join stated_key s on s.key_uid = w.key_uid
left join source_key k on k.key_uid = w.key_uid and k.entity_uid <> k.key_uid
where s.key_uid is not null or k.key_uid is not null
   or exists (select from staged_change c where c.entity_uid = w.key_uid)
   or exists (select from ledger l where l.entity_uid = w.key_uid and l.acts and l.op <> 'patch')
