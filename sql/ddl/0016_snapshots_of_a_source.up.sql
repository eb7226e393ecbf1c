-- A snapshot can be of a source: its scope is then the entities that a row of the source names with a change_ts before its instant.
alter table snapshot add column source_id smallint;
alter table snapshot drop constraint snapshot_has_a_scope;
alter table snapshot add constraint snapshot_has_a_scope
    check (case when source_id is null then coalesce(cardinality(entity_type_ids), 0) > 0 else entity_type_ids is null end);
create index snapshot_by_source on snapshot (source_id, at) where source_id is not null;

-- Whether a source names an entity is looked up for each entity that such a snapshot may end: first by its keys (see said_by_source).
create index key_link_by_entity on key_link (entity_uid);

-- The feed tells of the keys that a batch gives to entities, in the order of these.
create index key_link_of_batch on key_link (batch_id, entity_uid);

-- A repeat, and its undo, can bring an entity into such a scope or out of it. So `of_batch_id` is the batch by whose rows an entity
-- differs, or by what it says as a snapshot: this one, or the one that it undoes or reinstates. From `at` on the entity differs.
alter table snapshot_effect add column at timestamptz;
update snapshot_effect e set at = (select s.at from snapshot s where s.batch_id = e.of_batch_id);
alter table snapshot_effect alter column at set not null;
