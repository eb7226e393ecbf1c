-- Extensions stay: another schema of the database may use them.
drop table detail_type;
drop table entity_type;
