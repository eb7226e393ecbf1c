{% snapshot entity %}
{{ config(unique_key='entity_uid', strategy='check', check_cols=['display_name', 'entity_type'], updated_at='change_ts') }}
select entity_uid::uuid, display_name, entity_type, change_ts::timestamptz
from public.landing
{% endsnapshot %}
