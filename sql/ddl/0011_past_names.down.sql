-- Names of the past are searched without an index again.
drop index if exists entity_by_part_of_past_name;
