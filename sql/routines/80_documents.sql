-- The JSON of REST: the shape of a version, of a detail and of an entity, each written once; the planner inlines them all.
-- In: the columns of a row, and the canonical codes of its types. Out: JSON without control characters, as text.

-- The members that every version has, without braces.
create or replace function version_members(valid_from timestamptz, valid_to timestamptz, is_current boolean, hashdiff bytea)
returns text language sql stable parallel safe as $$
    select '"valid_from":"' || utc(valid_from) || '","valid_to":' || coalesce('"' || utc(valid_to) || '"', 'null')
        || ',"is_current":' || is_current || ',"hashdiff":"' || encode(hashdiff, 'hex') || '"'
$$;

create or replace function detail_document(
    detail_type text, detail_value text, valid_from timestamptz, valid_to timestamptz, is_current boolean, hashdiff bytea)
returns text language sql stable parallel safe as $$
    select '{"detail_type":"' || detail_type || '","detail_value":' || to_json(detail_value) || ','
        || version_members(valid_from, valid_to, is_current, hashdiff) || '}'
$$;

-- `details` are documents of details separated by commas; null means none. `keys` are members of an object; null leaves it out, as
-- answers for the past do.
create or replace function entity_document(
    entity_uid uuid, display_name text, entity_type text, valid_from timestamptz, valid_to timestamptz, is_current boolean,
    hashdiff bytea, details text, keys text default null)
returns text language sql stable parallel safe as $$
    select '{"entity_uid":"' || entity_uid || '","display_name":' || to_json(display_name) || ',"entity_type":"' || entity_type
        || '",' || version_members(valid_from, valid_to, is_current, hashdiff)
        || coalesce(',"keys":{' || keys || '}', '') || ',"details":[' || coalesce(details, '') || ']}'
$$;

-- The keys by which the sources name an entity, as a member of an object for each source: a text, or a list if there are several, of
-- which the first hundred are shown.
create or replace view keys_of_entity as
select k.entity_uid, s.code, to_json(s.code) || ':' || case count(*)
           when 1 then to_json(min(k.source_key))::text
           else array_to_json((array_agg(k.source_key order by k.source_key))[:100])::text end as member
from source_key k
join source s on s.source_id = k.source_id
group by k.entity_uid, s.code;

-- Return one entity at an instant, for a request that has changed it; 'infinity' means now. In plpgsql its plan is cached.
create or replace function document_at(uid uuid, instant timestamptz) returns text language plpgsql stable as $$
begin
    return (
        select entity_document(e.entity_uid, e.display_name, et.code, e.valid_from, e.valid_to, e.is_current, e.hashdiff, (
                   select string_agg(
                              detail_document(dt.code, d.detail_value, d.valid_from, d.valid_to, d.is_current, d.hashdiff),
                              ',' order by dt.code)
                   from entity_detail d
                   join detail_type dt on dt.detail_type_id = d.detail_type_id
                   where d.entity_uid = uid and d.valid_from <= instant and (d.valid_to > instant or d.valid_to is null)),
               case when instant = 'infinity' then coalesce(
                   (select string_agg(k.member, ',' order by k.code) from keys_of_entity k where k.entity_uid = uid), '') end)
        from entity e
        join entity_type et on et.entity_type_id = e.entity_type_id
        where e.entity_uid = uid and e.valid_from <= instant and (e.valid_to > instant or e.valid_to is null));
end
$$;

-- Return what a held drop would end, and what was decided of it; null for other drops.
create or replace function held_document(sha256 text) returns json language sql stable as $$
    select row_to_json(document)
    from (
        select h.would_end, h.in_scope, (
                   select ('[' || coalesce(string_agg(row_to_json(named)::text, ',' order by place), '') || ']')::json
                   from unnest(h.first_uids, h.first_names) with ordinality as f (uid, name, place)
                   cross join lateral (select f.uid as entity_uid, f.name as display_name) named) as first,
               utc(h.held_at) as held_at, h.sent_by, h.decision, utc(h.decided_at) as decided_at, h.decided_by, h.reason
        from held_drop h
        where h.drop_sha256 = sha256
    ) document
$$;
