-- Return the whole name whose beginning a cursor holds; the ledger has it even if the entity has another name now or has ended.
-- In: entity_uid, beginning, digest. Out: display_name; no row if the entity never had such a name.
select display_name
from ledger
where entity_uid = %(entity_uid)s and starts_with(display_name, %(beginning)s) and md5(display_name) = %(digest)s
limit 1
