-- What changed: net changes between two instants, transitions one by one, and what a change did when it was recorded.
-- In: instants. Out: documents of JSON, each shape spelled out once; the first two are inlined where they are called.

-- Where a change came from, by the columns of its batch, its drop and its row.
create or replace function origin_document(source text, drop_sha256 text, file_name text, row_no integer, request_id text)
returns json language sql stable parallel safe as $$
    select ('{"kind":"' || source || '",' || case source
        when 'drop' then '"sha256":"' || drop_sha256 || '","file_name":' || coalesce(to_json(file_name)::text, 'null') || ',"line":' || row_no
        else '"request_id":' || coalesce(to_json(request_id)::text, 'null') end || '}')::json
$$;

-- How a field changed.
create or replace function field_document(field text, value_from text, value_to text)
returns json language sql stable parallel safe as $$
    select ('{"field":' || to_json(field) || ',"from":' || coalesce(to_json(value_from)::text, 'null')
        || ',"to":' || coalesce(to_json(value_to)::text, 'null') || '}')::json
$$;

-- One row an entity that differs between two instants: what it lost since the first is compared with what it gained until the
-- other, field by field in the field's own comparison; what came and went again in between is neither.
create or replace function net_changes(since timestamptz, until timestamptz)
returns table (entity_uid uuid, document text) language sql stable as $$
    select c.entity_uid,
           '{"entity_uid":"' || c.entity_uid || '","action":"' || case
               when bool_and(c.value_from is null) filter (where c.field = 'display_name') then 'created'
               when bool_and(c.value_to is null) filter (where c.field = 'display_name') then 'ended'
               else 'changed' end || '","changes":['
           || string_agg(field_document(c.field, c.value_from, c.value_to)::text, ',' order by c.field like 'details.%', c.field)
               filter (where c.differs) || ']}'
    from (
        select f.entity_uid, f.field,
               max(f.value) filter (where not f.gained) as value_from, max(f.value) filter (where f.gained) as value_to,
               count(distinct f.identity) > 1 or count(*) = 1 as differs
        from (
            select e.entity_uid, e.valid_from > since as gained, part.field, part.value, convert_to(part.value, 'UTF8') as identity
            from entity e
            join entity_type et on et.entity_type_id = e.entity_type_id
            cross join lateral (values ('display_name', e.display_name), ('entity_type', et.code)) as part (field, value)
            where ((e.valid_from > since and e.valid_from <= until) or (e.valid_to > since and e.valid_to <= until))
              and (e.valid_from <= since or e.valid_to > until or e.valid_to is null)
            union all
            select d.entity_uid, d.valid_from > since, 'details.' || dt.code, d.detail_value, d.hashdiff
            from entity_detail d
            join detail_type dt on dt.detail_type_id = d.detail_type_id
            where ((d.valid_from > since and d.valid_from <= until) or (d.valid_to > since and d.valid_to <= until))
              and (d.valid_from <= since or d.valid_to > until or d.valid_to is null)
        ) f
        group by f.entity_uid, f.field
    ) c
    group by c.entity_uid
    having bool_or(c.differs)
$$;

-- One row a moment, an instant and an entity, in (since, until]: what ended then is compared with what began, and the ledger's
-- last change of the entity at that instant says when and by whom it was recorded.
create or replace function transitions(since timestamptz, until timestamptz)
returns table (at timestamptz, entity_uid uuid, document text) language sql stable as $$
    select t.at, t.entity_uid,
           '{"entity_uid":"' || t.entity_uid || '","at":"' || utc(t.at) || '","action":"' || t.action || '","changes":[' || t.changes
           || '],"recorded_at":"' || utc(b.recorded_at) || '","actor":' || to_json(b.actor)
           || ',"source":' || origin_document(b.source, b.drop_sha256, f.file_name, t.last[2]::integer, b.request_id)::text || '}'
    from (
        select c.at, c.entity_uid,
               case when bool_and(c.value_from is null) filter (where c.field = 'display_name') then 'created'
                    when bool_and(c.value_to is null) filter (where c.field = 'display_name') then 'ended'
                    else 'changed' end as action,
               string_agg(field_document(c.field, c.value_from, c.value_to)::text, ',' order by c.field like 'details.%', c.field)
                   filter (where c.differs) as changes,
               (select array[l.batch_id, l.row_no]
                from ledger l
                where l.entity_uid = c.entity_uid and l.change_ts = c.at and l.acts
                order by l.batch_id desc, l.row_no desc
                limit 1) as last
        from (
            select f.at, f.entity_uid, f.field,
                   max(f.value) filter (where not f.began) as value_from, max(f.value) filter (where f.began) as value_to,
                   count(distinct f.identity) > 1 or count(*) = 1 as differs
            from (
                select moment.at, e.entity_uid, moment.began, part.field, part.value, convert_to(part.value, 'UTF8') as identity
                from entity e
                join entity_type et on et.entity_type_id = e.entity_type_id
                cross join lateral (values (e.valid_from, true), (e.valid_to, false)) as moment (at, began)
                cross join lateral (values ('display_name', e.display_name), ('entity_type', et.code)) as part (field, value)
                where ((e.valid_from > since and e.valid_from <= until) or (e.valid_to > since and e.valid_to <= until))
                  and moment.at > since and moment.at <= until
                union all
                select moment.at, d.entity_uid, moment.began, 'details.' || dt.code, d.detail_value, d.hashdiff
                from entity_detail d
                join detail_type dt on dt.detail_type_id = d.detail_type_id
                cross join lateral (values (d.valid_from, true), (d.valid_to, false)) as moment (at, began)
                where ((d.valid_from > since and d.valid_from <= until) or (d.valid_to > since and d.valid_to <= until))
                  and moment.at > since and moment.at <= until
            ) f
            group by f.at, f.entity_uid, f.field
        ) c
        group by c.at, c.entity_uid
    ) t
    join batch b on b.batch_id = t.last[1]
    left join drop_file f on f.sha256 = b.drop_sha256
$$;

-- The state of an entity at an instant by what was recorded up to a row of a batch and acted as known at an instant; null if it did
-- not exist. It is the walk
-- of the fold for one instant, from its end backwards: whatever was said last since the entity began stands.
create or replace function recorded_state(
    uid uuid, instant timestamptz, last_batch bigint, last_row integer, known_at timestamptz)
returns json language sql stable as $$
    select (select row_to_json(state)
            from (select named.display_name, et.code as entity_type, coalesce(shown.details, '{}') as details) state)
    from (
        select l.change_ts, l.batch_id, l.row_no
        from (
            select coalesce(max(d.change_ts), '-infinity') as change_ts, coalesce(max(d.batch_id), 0) as batch_id,
                   coalesce(max(d.row_no), 0) as row_no
            from (
                select d.change_ts, d.batch_id, d.row_no
                from ledger_as_known(known_at) d
                where d.acts and d.entity_uid = uid and d.change_ts <= instant and (d.batch_id, d.row_no) <= (last_batch, last_row)
                  and d.op = 'delete'
                order by d.change_ts desc, d.batch_id desc, d.row_no desc
                limit 1
            ) d
        ) died
        join ledger_as_known(known_at) l on (l.change_ts, l.batch_id, l.row_no) > (died.change_ts, died.batch_id, died.row_no)
        where l.acts and l.entity_uid = uid and l.change_ts <= instant and (l.batch_id, l.row_no) <= (last_batch, last_row)
          and l.op = 'upsert'
        order by l.change_ts, l.batch_id, l.row_no
        limit 1
    ) began
    cross join lateral (
        select l.display_name
        from ledger_as_known(known_at) l
        where l.acts and l.entity_uid = uid and l.change_ts <= instant and (l.batch_id, l.row_no) <= (last_batch, last_row)
          and (l.change_ts, l.batch_id, l.row_no) >= (began.change_ts, began.batch_id, began.row_no)
          and l.display_name is not null
        order by l.change_ts desc, l.batch_id desc, l.row_no desc
        limit 1
    ) named
    cross join lateral (
        select l.entity_type_id
        from ledger_as_known(known_at) l
        where l.acts and l.entity_uid = uid and l.change_ts <= instant and (l.batch_id, l.row_no) <= (last_batch, last_row)
          and (l.change_ts, l.batch_id, l.row_no) >= (began.change_ts, began.batch_id, began.row_no)
          and l.entity_type_id is not null
        order by l.change_ts desc, l.batch_id desc, l.row_no desc
        limit 1
    ) typed
    join entity_type et on et.entity_type_id = typed.entity_type_id
    cross join lateral (
        select json_object_agg(dt.code, listed.value order by dt.code) as details
        from detail_type dt
        cross join lateral (
            select l.details ->> dt.code as value
            from ledger_as_known(known_at) l
            where l.acts and l.entity_uid = uid and l.change_ts <= instant and (l.batch_id, l.row_no) <= (last_batch, last_row)
              and (l.change_ts, l.batch_id, l.row_no) >= (began.change_ts, began.batch_id, began.row_no)
              and l.details ? dt.code
            order by l.change_ts desc, l.batch_id desc, l.row_no desc
            limit 1
        ) listed
        where listed.value is not null
    ) shown
$$;
