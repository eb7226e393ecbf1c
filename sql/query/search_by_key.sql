-- Finds the current entities that a source names by a key.
-- In: source_key (in normal form), entity_type (code; null: any), limit. Out: entity_uid, display_name, entity_type, source, by source.
select e.entity_uid, e.display_name, et.code, s.code
from source s
join source_key k on k.key_uid = key_uid(s.code, %(source_key)s)
join entity e on e.entity_uid = k.entity_uid and e.is_current
join entity_type et on et.entity_type_id = e.entity_type_id and (%(entity_type)s::text is null or et.code = %(entity_type)s)
order by s.code
limit %(limit)s
