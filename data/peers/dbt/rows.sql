-- Every version that dbt keeps of some entities, with the details that are current now.
-- In: entity_uids. Out: entity_uid, display_name, entity_type, details, valid_from, valid_to.
select entity_uid::text, display_name, entity_type, details, dbt_valid_from, dbt_valid_to
from crm.entity
left join (
    select entity_uid, json_agg(json_build_object('detail_type', detail_type, 'detail_value', detail_value))::text as details
    from crm.detail
    where dbt_valid_to is null
    group by entity_uid
) as current_details using (entity_uid)
where entity_uid::text = any(%(entity_uids)s)
