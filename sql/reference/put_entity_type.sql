-- Create an entity type, or update the one with that code in upper or lower case; its spelling stays, because hashdiffs contain it.
-- In: code, name, description, is_active. Out: nothing.
with updated as (
    update entity_type
    set name = %(name)s, description = %(description)s, is_active = %(is_active)s
    where lower(code) = lower(%(code)s collate "C")
      and (name, description, is_active) is distinct from (%(name)s, %(description)s, %(is_active)s)
)
insert into entity_type (code, name, description, is_active)
select %(code)s, %(name)s, %(description)s, %(is_active)s
where not exists (select from entity_type where lower(code) = lower(%(code)s collate "C"))
