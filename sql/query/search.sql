-- Finds current entities by their name or by a detail, best matches first: equal, then beginning with the text, then with it inside;
-- of equally good ones by name first. No more are looked at than each way of finding them gives.
-- In: text, beginnings (the text as names may begin with it), part (a pattern of LIKE), entity_type (code; null: any), limit,
-- details_limit (that have the part).
-- Out: entity_uid, display_name, entity_type, field, value, match (0, 1, 2).
with wanted_type as (
    select entity_type_id from entity_type where code = %(entity_type)s
),
found as materialized (
    (select e.entity_uid, null::smallint as detail_type_id, e.display_name as value
     from unnest(%(beginnings)s::text[]) as wanted (beginning)
     cross join lateral (
         select entity_uid, display_name
         from entity
         where is_current
           and display_name >= wanted.beginning collate "C" and display_name < (wanted.beginning || u&'\+10FFFF') collate "C"
           and (%(entity_type)s::text is null or entity_type_id = (select entity_type_id from wanted_type))
         order by display_name, entity_uid
         limit %(limit)s
     ) e)
    union all
    (select entity_uid, null, display_name
     from entity
     where is_current and search_form(display_name) like search_form(%(part)s)
       and (%(entity_type)s::text is null or entity_type_id = (select entity_type_id from wanted_type))
     order by display_name, entity_uid
     limit %(limit)s)
    union all
    (select d.entity_uid, d.detail_type_id, d.detail_value
     from detail_type dt
     join entity_detail d on d.hashdiff = detail_hashdiff(dt.code, %(text)s, dt.compares) and d.is_current
     where %(entity_type)s::text is null
        or exists (select from entity e where e.entity_uid = d.entity_uid and e.is_current
                   and e.entity_type_id = (select entity_type_id from wanted_type))
     limit %(limit)s)
    union all
    (select d.entity_uid, d.detail_type_id, d.detail_value
     from entity_detail d
     where d.is_current and search_form(left(d.detail_value, 200)) like search_form(%(part)s)
       and (%(entity_type)s::text is null
            or exists (select from entity e where e.entity_uid = d.entity_uid and e.is_current
                       and e.entity_type_id = (select entity_type_id from wanted_type)))
     limit %(details_limit)s)
)
select e.entity_uid, e.display_name, et.code, coalesce('details.' || dt.code, 'display_name'), best.value, best.match
from (
    select distinct on (entity_uid) *
    from (
        select *, case when search_form(value) = search_form(%(text)s) then 0
                       when starts_with(search_form(value), search_form(%(text)s)) then 1
                       else 2 end as match
        from found
    ) ranked
    order by entity_uid, match, detail_type_id nulls first
) best
join entity e on e.entity_uid = best.entity_uid and e.is_current
join entity_type et on et.entity_type_id = e.entity_type_id
left join detail_type dt on dt.detail_type_id = best.detail_type_id
order by best.match, best.detail_type_id is not null, e.display_name, e.entity_uid
limit %(limit)s
