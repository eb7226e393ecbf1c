{% snapshot detail %}
{{
    config(
        unique_key=['entity_uid', 'detail_type'],
        strategy='check',
        check_cols=['detail_value'],
        updated_at='change_ts',
    )
}}
select entity_uid::uuid, detail_type, detail_value, change_ts::timestamptz
from public.landing,
    jsonb_to_recordset(nullif(details, '')::jsonb) as detail(detail_type text, detail_value text)
{% endsnapshot %}
