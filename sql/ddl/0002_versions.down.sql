-- The versions go; nothing else knows them.
drop table entity_detail;
drop table entity;
