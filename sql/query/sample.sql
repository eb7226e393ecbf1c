-- Sample the data for EXPLAIN: one current entity from the middle, a value of one of its details, and the span of time.
-- In: nothing. Out: entity_uid, display_name, entity_type_id, hashdiff, middle and end of time, versions; key_uid of a source's key (that
-- of the entity if there is none), keys; no row if there are no data.
select e.entity_uid, e.display_name, e.entity_type_id,
       (select d.hashdiff from entity_detail d where d.entity_uid = e.entity_uid limit 1) as hashdiff,
       (select l.change_ts from ledger l where l.entity_uid >= '80000000-0000-0000-0000-000000000000'
        order by l.entity_uid limit 1) as middle,
       (select max(recorded_at) from batch) as recorded_at,
       (select reltuples::bigint from pg_class where oid = 'entity'::regclass) as versions,
       coalesce((select k.key_uid from source_key k where k.key_uid >= '80000000-0000-0000-0000-000000000000'
                 order by k.key_uid limit 1), e.entity_uid) as key_uid,
       (select reltuples::bigint from pg_class where oid = 'source_key'::regclass) as keys
from entity e
where e.is_current
order by e.entity_uid < '80000000-0000-0000-0000-000000000000', e.entity_uid
limit 1
