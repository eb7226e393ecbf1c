-- Count the current entities that match a filter, up to a number of them.
-- In: like (pattern, null: any), entity_type_id, source_id, key_uids (null: any), at_most (null: all). Out: count.
select count(*)
from (
    select
    from entity
    where is_current
      and (%(like)s::text is null or search_form(display_name) like search_form(%(like)s))
      and (%(entity_type_id)s::smallint is null or entity_type_id = %(entity_type_id)s)
      and (%(source_id)s::smallint is null or exists (
          select from source_key k where k.entity_uid = entity.entity_uid and k.source_id = %(source_id)s))
      and (%(key_uids)s::uuid[] is null or entity.entity_uid = any (array(
          select k.entity_uid from source_key k where k.key_uid = any (%(key_uids)s::uuid[]))))
    limit %(at_most)s
) counted
