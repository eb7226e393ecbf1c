-- Return which of some entities existed at an instant and match a filter, in order of entity_uid.
-- In: entity_uids, as_of, like, entity_type_id, source_id, key_uids (null: any), hashdiffs (of details that they must have). Out: entity_uid.
select e.entity_uid
from entity e
where e.entity_uid = any (%(entity_uids)s::uuid[])
  and e.valid_from <= %(as_of)s and (e.valid_to > %(as_of)s or e.valid_to is null)
  and (%(like)s::text is null or search_form(e.display_name) like search_form(%(like)s))
  and (%(entity_type_id)s::smallint is null or e.entity_type_id = %(entity_type_id)s)
  and (%(source_id)s::smallint is null or exists (
      select from source_key k where k.entity_uid = e.entity_uid and k.source_id = %(source_id)s))
  and (%(key_uids)s::uuid[] is null or e.entity_uid = any (array(
      select k.entity_uid from source_key k where k.key_uid = any (%(key_uids)s::uuid[]))))
  and (%(hashdiffs)s::bytea[] = '{}' or e.entity_uid in (
      select d.entity_uid
      from entity_detail d
      where d.entity_uid = any (%(entity_uids)s::uuid[]) and d.hashdiff = any (%(hashdiffs)s::bytea[])
        and d.valid_from <= %(as_of)s and (d.valid_to > %(as_of)s or d.valid_to is null)
      group by d.entity_uid
      having count(*) = cardinality(%(hashdiffs)s::bytea[])))
order by e.entity_uid
