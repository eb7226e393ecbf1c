-- The instant of the latest change of an entity.
-- In: entity_uid. Out: change_ts, null if nothing is known of it.
select max(change_ts) from ledger where entity_uid = %(entity_uid)s
