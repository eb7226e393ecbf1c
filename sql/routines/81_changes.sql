-- What changed: net changes between two instants, transitions one by one, and where a change came from.
-- In: instants. Out: documents of JSON, each shape spelled out once; the first two are inlined where they are called.

-- Return where a change came from, by the columns of its batch, its drop and its row; row 0 is what a snapshot does not list.
create or replace function origin_document(source text, drop_sha256 text, file_name text, row_no integer, request_id text)
returns json language sql stable parallel safe as $$
    select ('{"kind":"' || source || '",' || case source
        when 'drop' then '"sha256":"' || drop_sha256 || '","file_name":' || coalesce(to_json(file_name)::text, 'null') || ',"line":'
                    || coalesce(nullif(row_no, 0)::text, 'null')
        else '"request_id":' || coalesce(to_json(request_id)::text, 'null') end || '}')::json
$$;

-- What a batch did to entities of which it says nothing new, one row for each entity, at the earliest instant: it undid or reinstated
-- what names them, or a snapshot ends them by it: it is the snapshot, or brought them into the scope of one.
create or replace view batch_effect as
select entity_uid, min(change_ts) as change_ts, batch_id, op
from (
    select l.entity_uid, l.change_ts, r.batch_id, case when r.is_reinstated then 'reinstate' else 'undo' end as op
    from retraction r
    join ledger l on l.batch_id = r.of_batch_id
    union all
    select e.entity_uid, e.at, e.batch_id,
           case when e.of_batch_id = e.batch_id then 'snapshot' else (select b.source from batch b where b.batch_id = e.batch_id) end
    from snapshot_effect e
) touched
group by entity_uid, batch_id, op;

create or replace view known.batch_effect as
select entity_uid, change_ts, batch_id, op
from batch_effect e
where (select b.recorded_at from batch b where b.batch_id = e.batch_id) <= current_setting('crm.known_at')::timestamptz;

-- Return how a field changed.
create or replace function field_document(field text, value_from text, value_to text)
returns json language sql stable parallel safe as $$
    select ('{"field":' || to_json(field) || ',"from":' || coalesce(to_json(value_from)::text, 'null')
        || ',"to":' || coalesce(to_json(value_to)::text, 'null') || '}')::json
$$;

-- Return one row for each entity that differs between two instants: what it lost since the first is compared with what it gained by
-- the other, field by field as the field compares; values that came and went in between are ignored.
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

-- Return one row for each moment, an instant and an entity, in (since, until]: what ended is compared with what began, and the ledger's
-- last change of the entity at that instant says when and by whom it was recorded; if there is none, the snapshot that ended it.
create or replace function transitions(since timestamptz, until timestamptz)
returns table (at timestamptz, entity_uid uuid, document text) language sql stable as $$
    select t.at, t.entity_uid,
           '{"entity_uid":"' || t.entity_uid || '","at":"' || utc(t.at) || '","action":"' || t.action || '","changes":[' || t.changes
           || '],"recorded_at":"' || utc(b.recorded_at) || '","actor":' || to_json(b.actor)
           || ',"source":' || origin_document(b.source, b.drop_sha256, f.file_name, origin.row_no, b.request_id)::text || '}'
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
                limit 1) as said,
               max(c.value_from) filter (where c.field = 'entity_type') as type_before
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
    cross join lateral (
        select coalesce(t.said[1], (
                   select s.batch_id
                   from snapshot s
                   where s.acts and s.at = t.at
                     and ((select et.entity_type_id from entity_type et where et.code = t.type_before) = any (s.entity_type_ids)
                          or s.source_id is not null and (
                              select true from named_by_source n
                              where n.source_id = s.source_id and n.entity_uid = t.entity_uid and n.change_ts < s.at limit 1))
                     and (select true from named_by_batch n where n.batch_id = s.batch_id and n.entity_uid = t.entity_uid limit 1)
                         is null
                   order by s.batch_id
                   limit 1)) as batch_id,
               coalesce(t.said[2], 0)::integer as row_no
    ) origin
    join batch b on b.batch_id = origin.batch_id
    left join drop_file f on f.sha256 = b.drop_sha256
$$;
