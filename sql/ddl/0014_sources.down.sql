-- The sources go, with their keys and links. The entities that they named stay.
alter table repeat drop column source_id;
alter table ledger drop column source_id;
drop table key_link;
drop table source_key;
drop table source;
