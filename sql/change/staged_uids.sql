-- Return the entities of the staged changes, in the order of their lines.
-- In: staged_change. Out: entity_uid.
select entity_uid from staged_change order by row_no
