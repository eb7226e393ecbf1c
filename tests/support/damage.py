"""What breaks each invariant, and no other: SQL by the name of its check."""

from __future__ import annotations

DAMAGE = {
    "01_one_current_entity": (
        "alter table entity drop constraint exclude_overlapping_entities;drop index unique_current_entity;"
        "update entity set valid_to = null, is_current = true"
    ),
    "02_one_current_detail": (
        "alter table entity_detail drop constraint exclude_overlapping_details;drop index unique_current_entity_detail;"
        "update entity_detail set valid_to = null, is_current = true"
    ),
    "03_entity_intervals": (
        "alter table entity drop constraint exclude_overlapping_entities;"
        "update entity set valid_to = '2030-01-01' where not is_current"
    ),
    "04_detail_intervals": (
        "alter table entity_detail drop constraint exclude_overlapping_details;"
        "update entity_detail set valid_to = '2030-01-01' where not is_current"
    ),
    "05_no_gap_without_deletion": "update entity set valid_to = valid_to - interval '1 hour' where not is_current",
    "06_detail_within_entity": "delete from entity",
    "07_entity_hashdiffs": "update entity set display_name = display_name || '!' where is_current",
    "08_detail_hashdiffs": "update entity_detail set detail_value = detail_value || '!' where is_current",
    "09_entities_are_the_fold": "update entity set valid_from = valid_from - interval '1 hour' where not is_current",
    "10_details_are_the_fold": "delete from entity_detail",
    "11_books_balance": (
        "insert into drop_file"
        " (sha256, file_name, bytes, first_seen_at, status, merged_at, batch_id, rows_read, rows_rejected)"
        " values (repeat('a', 64), 'x.csv', 1, now(), 'merged', now(), 7, 1, 1)"
    ),
    "13_what_is_undone_does_not_act": (
        "update ledger set acts = false where batch_id = (select max(batch_id) from batch)"
    ),
    "17_keys_name_what_was_linked": (
        "insert into source (code, name) values ('erp', 'ERP');"
        "insert into source_key (key_uid, source_id, source_key, entity_uid, batch_id)"
        " select gen_random_uuid(), 1, entity_uid::text, entity_uid, 1 from entity where is_current"
    ),
    "14_schema_is_whole": "drop index entity_by_time; alter table entity drop constraint entity_named",
    "15_indexes_are_sound": (  # an index that misses a row, as one of another operating system may
        "create extension amcheck;"
        "update pg_index set indisready = false where indexrelid = 'batch_by_recorded_at'::regclass;"
        "insert into batch (recorded_at, actor, source) values (now(), 'x', 'request');"
        "set constraints all immediate;"  # it is stamped before the index is ready again
        "update pg_index set indisready = true where indexrelid = 'batch_by_recorded_at'::regclass"
    ),
    "16_collations_are_unchanged": (
        "do $$ declare moved regcollation; begin"
        " select oid into moved from pg_collation"
        " where pg_collation_actual_version(oid) is not null order by oid limit 1;"
        " update pg_collation set collversion = '0' where oid = moved;"
        " execute format('create index of_another_system on batch (actor collate %s)', moved); end $$"
    ),
    "12_every_change_has_a_batch": "delete from batch where batch_id = (select max(batch_id) from batch)",
}
