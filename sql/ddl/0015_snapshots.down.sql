-- Snapshots go, and what they ended lives on: `crm check` says where. What waits for a decision is as if it had not been read.
drop table held_part, held_drop;
alter table drop_file drop constraint drop_file_status_known;
update drop_file set status = 'seen' where status in ('held', 'declined');
alter table drop_file add constraint drop_file_status_known check (status in ('seen', 'merged', 'refused', 'undone'));

drop index drop_file_by_content;
alter table drop_file drop constraint drop_file_mode_known;
alter table drop_file
    drop column content_sha256, drop column mode, drop column scope, drop column snapshot_at, drop column entities_ended;

drop table snapshot_effect, snapshot_reject, snapshot;
drop function if exists compare_with_ledger(uuid, timestamptz, text, text, smallint, jsonb);
