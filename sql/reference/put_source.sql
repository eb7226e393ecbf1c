-- Create a source, or update the one with that code in upper or lower case; its spelling stays, because answers show it.
-- In: code, name, description, is_active. Out: nothing.
with updated as (
    update source
    set name = %(name)s, description = %(description)s, is_active = %(is_active)s
    where lower(code) = lower(%(code)s collate "C")
      and (name, description, is_active) is distinct from (%(name)s, %(description)s, %(is_active)s)
)
insert into source (code, name, description, is_active)
select %(code)s, %(name)s, %(description)s, %(is_active)s
where not exists (select from source where lower(code) = lower(%(code)s collate "C"))
