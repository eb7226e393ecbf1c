model (
    name crm.entity,
    kind scd_type_2_by_column (
        unique_key entity_uid,
        columns [display_name, entity_type, details],
        execution_time_as_valid_from true,
        invalidate_hard_deletes false
    ),
    start '2020-01-01',
    cron '@daily'
);

select
    entity_uid::uuid as entity_uid,
    display_name::text as display_name,
    entity_type::text as entity_type,
    details::jsonb::text as details
from public.landing
