-- The next entities that a comparison may show, in order of entity_uid: something of them begins or ends in the window, and they exist at
-- its ends as the action wants it. Up to some entity they are looked at by their key, otherwise those of the window are found by time:
-- there the second condition adds nothing, and serves no index. (`offset 0`: the type is looked up for these alone, not for all.)
-- In: from, to, action, field (null: any), entity_type_id (null: any; of any of their versions), entity_uids (null: any), after_uid (null:
-- from the start), upto_uid (null: to the end), limit. Out: entity_uid.
select entity_uid
from (
    (select distinct e.entity_uid
     from entity e
     where (%(after_uid)s::uuid is null or e.entity_uid > %(after_uid)s)
       and (%(upto_uid)s::uuid is null or e.entity_uid <= %(upto_uid)s)
       and (%(entity_uids)s::uuid[] is null or e.entity_uid = any (%(entity_uids)s::uuid[]))
       and (%(upto_uid)s::uuid is not null
            or (e.valid_from > %(from)s and e.valid_from <= %(to)s) or (e.valid_to > %(from)s and e.valid_to <= %(to)s))
       and ((e.valid_from > %(from)s and e.valid_from <= %(to)s)
            or (coalesce(e.valid_to, 'infinity') > %(from)s and coalesce(e.valid_to, 'infinity') <= %(to)s))
       and (%(field)s::text is null or %(field)s::text not like 'details.%%')
       and case %(action)s::text
               when 'created' then e.valid_from > %(from)s and (e.valid_to > %(to)s or e.valid_to is null)
                   and not exists (select from entity was where was.entity_uid = e.entity_uid
                                   and was.valid_from <= %(from)s and (was.valid_to > %(from)s or was.valid_to is null))
               when 'ended' then e.valid_from <= %(from)s
                   and not exists (select from entity now where now.entity_uid = e.entity_uid
                                   and now.valid_from <= %(to)s and (now.valid_to > %(to)s or now.valid_to is null))
               when 'changed' then e.valid_from <= %(from)s
               else true
           end
       and (%(entity_type_id)s::smallint is null
            or exists (select from entity typed where typed.entity_uid = e.entity_uid and typed.entity_type_id = %(entity_type_id)s offset 0))
     order by e.entity_uid
     limit %(limit)s)
    union
    (select distinct d.entity_uid
     from entity_detail d
     where (%(after_uid)s::uuid is null or d.entity_uid > %(after_uid)s)
       and (%(upto_uid)s::uuid is null or d.entity_uid <= %(upto_uid)s)
       and (%(entity_uids)s::uuid[] is null or d.entity_uid = any (%(entity_uids)s::uuid[]))
       and (%(upto_uid)s::uuid is not null
            or (d.valid_from > %(from)s and d.valid_from <= %(to)s) or (d.valid_to > %(from)s and d.valid_to <= %(to)s))
       and ((d.valid_from > %(from)s and d.valid_from <= %(to)s)
            or (coalesce(d.valid_to, 'infinity') > %(from)s and coalesce(d.valid_to, 'infinity') <= %(to)s))
       and (%(action)s::text = 'changed' or %(action)s::text is null or %(field)s::text is not null)
       and (%(field)s::text is null
            or d.detail_type_id = (select detail_type_id from detail_type where 'details.' || code = %(field)s::text))
       and (%(action)s::text is null
            or exists (select from entity was where was.entity_uid = d.entity_uid
                       and was.valid_from <= %(from)s and (was.valid_to > %(from)s or was.valid_to is null)) = (%(action)s::text <> 'created')
               and exists (select from entity now where now.entity_uid = d.entity_uid
                           and now.valid_from <= %(to)s and (now.valid_to > %(to)s or now.valid_to is null)) = (%(action)s::text <> 'ended'))
       and (%(entity_type_id)s::smallint is null
            or exists (select from entity typed where typed.entity_uid = d.entity_uid and typed.entity_type_id = %(entity_type_id)s offset 0))
     order by d.entity_uid
     limit %(limit)s)
) candidate
order by entity_uid
limit %(limit)s
