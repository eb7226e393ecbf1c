-- Return what changed in some entities at some moments, one document per moment in order of (instant, entity_uid).
-- In: ats and entity_uids (pair by pair), from and to (around them). Out: document, at, entity_uid.
select t.document, t.at, t.entity_uid
from unnest(%(ats)s::timestamptz[], %(entity_uids)s::uuid[]) as moment (at, entity_uid)
join transitions(%(from)s, %(to)s) t using (at, entity_uid)
where t.entity_uid = any (%(entity_uids)s) and t.at = any (%(ats)s)
order by t.at, t.entity_uid
