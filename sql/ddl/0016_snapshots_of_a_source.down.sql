-- Snapshots of sources go, and what they ended lives on: `crm check` says where.
delete from snapshot_reject where batch_id in (select batch_id from snapshot where source_id is not null);
delete from snapshot where source_id is not null;
delete from snapshot_effect where of_batch_id not in (select batch_id from snapshot);
alter table snapshot_effect drop column at;
drop index key_link_of_batch;
drop index key_link_by_entity;
drop index snapshot_by_source;
alter table snapshot drop constraint snapshot_has_a_scope;
alter table snapshot add constraint snapshot_has_a_scope check (cardinality(entity_type_ids) > 0);
alter table snapshot drop column source_id;
