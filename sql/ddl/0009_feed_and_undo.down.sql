-- The feed goes. So do the retractions: going below this revision lets what is undone act again, and `crm check` says where.
alter table drop_file drop constraint drop_file_merged_has_a_batch;
alter table drop_file drop constraint drop_file_status_known;
update drop_file set status = 'merged' where status = 'undone';
alter table drop_file add constraint drop_file_status_known check (status in ('seen', 'merged', 'refused'));
alter table drop_file add constraint drop_file_merged_has_a_batch
    check ((status = 'merged') = (merged_at is not null and batch_id is not null));

drop table repeat;
delete from ledger where promoted_by is not null;
alter table ledger drop column acts, drop column promoted_by;
drop table retraction;
delete from batch where source in ('undo', 'reinstate');
alter table batch drop constraint batch_source_known;
alter table batch add constraint batch_source_known check (source in ('drop', 'request', 'fixture'));

drop index ledger_by_batch;
create index ledger_by_batch on ledger using brin (batch_id) with (pages_per_range = 16);

drop index batch_by_recorded_at;
create index batch_by_recorded_at on batch (recorded_at);
