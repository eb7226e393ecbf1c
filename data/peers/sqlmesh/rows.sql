-- Every version that SQLMesh keeps of some entities.
-- In: entity_uids. Out: entity_uid, display_name, entity_type, details, valid_from, valid_to.
select entity_uid::text, display_name, entity_type, details, valid_from at time zone 'utc', valid_to at time zone 'utc'
from crm.entity
where entity_uid::text = any(%(entity_uids)s)
