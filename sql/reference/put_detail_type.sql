-- Create a detail type, or update the one with that code in upper or lower case; its spelling stays, because hashdiffs contain it.
-- In: code, name, description, is_active, compares. Out: nothing.
with updated as (
    update detail_type
    set name = %(name)s, description = %(description)s, is_active = %(is_active)s, compares = %(compares)s
    where lower(code) = lower(%(code)s collate "C")
      and (name, description, is_active, compares)
          is distinct from (%(name)s, %(description)s, %(is_active)s, %(compares)s)
)
insert into detail_type (code, name, description, is_active, compares)
select %(code)s, %(name)s, %(description)s, %(is_active)s, %(compares)s
where not exists (select from detail_type where lower(code) = lower(%(code)s collate "C"))
