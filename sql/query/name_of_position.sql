-- The whole name of which a cursor holds the beginning; the ledger keeps it though the entity has another by now, or has ended.
-- In: entity_uid, beginning, digest. Out: display_name, none if the entity never had such a name.
select display_name
from ledger
where entity_uid = %(entity_uid)s and starts_with(display_name, %(beginning)s) and md5(display_name) = %(digest)s
limit 1
