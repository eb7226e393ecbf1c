-- The search by a part of the name goes.
drop statistics if exists entity_search_form;
drop index if exists entity_by_part_of_name;
drop function search_form;
