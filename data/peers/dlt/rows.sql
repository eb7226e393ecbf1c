-- Every version that dlt keeps of some entities.
-- In: entity_uids. Out: entity_uid, display_name, entity_type, details, valid_from, valid_to.
select entity_uid, display_name, entity_type, details, _dlt_valid_from, _dlt_valid_to
from crm.entity
where entity_uid = any(%(entity_uids)s)
