-- Every version that dlt keeps of some entities, with its details.
-- In: entity_uids. Out: entity_uid, display_name, entity_type, details, valid_from, valid_to.
select entity_uid, display_name, entity_type,
       (select json_agg(json_build_object('detail_type', detail_type, 'detail_value', detail_value))::text
        from crm.entity__details where _dlt_parent_id = entity._dlt_id) as details,
       _dlt_valid_from, _dlt_valid_to
from crm.entity
where entity_uid = any(%(entity_uids)s)
