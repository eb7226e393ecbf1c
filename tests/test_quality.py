"""`check` finds each kind of damage that the constraints cannot, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import an_entity, reference_data, uid, write_drop

from crm_core.database import Connection
from crm_core.ingest import Options, ingest_over
from crm_core.merge import Origin, record
from crm_core.quality import CHECKS, NOT_OF_ENTITIES, RowCounts, check, entities_of_drop, row_counts
from crm_core.reference import reference_types

pytestmark = pytest.mark.integration

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
    "13_schema_is_whole": "drop index entity_by_time; alter table entity drop constraint entity_named",
    "14_indexes_are_sound": (  # an index that misses a row, as one of another operating system may
        "create extension amcheck;"
        "update pg_index set indisready = false where indexrelid = 'batch_by_recorded_at'::regclass;"
        "insert into batch (recorded_at, actor, source) values (now(), 'x', 'request');"
        "update pg_index set indisready = true where indexrelid = 'batch_by_recorded_at'::regclass"
    ),
    "15_collations_are_unchanged": (
        "do $$ declare moved regcollation; begin"
        " select oid into moved from pg_collation"
        " where pg_collation_actual_version(oid) is not null order by oid limit 1;"
        " update pg_collation set collversion = '0' where oid = moved;"
        " execute format('create index of_another_system on access_token (name collate %s)', moved); end $$"
    ),
    "12_every_change_has_a_batch": "delete from batch where batch_id = (select max(batch_id) from batch)",
}


def fill(connection: Connection) -> None:
    reference_data(connection)
    types = reference_types(connection)
    for at in (1, 2):
        changes = [an_entity(who, at=at, name=f"{who} {at}", email=f"{at}@x.org") for who in ("ada", "bob")]
        record(connection, types, changes, Origin("test", "request"))


def test_every_invariant_holds_after_merges(connection: Connection) -> None:
    fill(connection)
    checks = list(check(connection))
    assert len(checks) == len(CHECKS)
    assert [c.name for c in checks if not c.holds] == []
    assert all(c.invariant.endswith(".") for c in checks)


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_finds_the_damage_it_is_for(connection: Connection, name: str) -> None:
    fill(connection)
    connection.execute(DAMAGE[name].encode())
    found = {c.name: c for c in check(connection)}
    broken = found[name[3:]]
    assert not broken.holds
    assert broken.examples


def test_a_database_whose_own_collation_changed_is_told(any_connection: Connection) -> None:
    any_connection.execute("update pg_database set datcollversion = '0' where datname = current_database()")
    query = "select pg_database_collation_actual_version(oid) from pg_database where datname = current_database()"
    has_versions = any_connection.execute(query).fetchone() != (None,)  # that of C has none
    found = {c.name: c for c in check(any_connection)}["collations_are_unchanged"]
    assert found.holds is not has_versions
    assert ["refresh collation version" in line for line in found.examples] == [True] * has_versions


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in NOT_OF_ENTITIES])
def test_a_check_of_some_entities_finds_their_damage_and_no_others(connection: Connection, name: str) -> None:
    fill(connection)
    connection.execute(DAMAGE[name].encode())
    damaged = {c.name: c.holds for c in check(connection, uids=[uid("ada")])}
    assert damaged[name[3:]] is False
    assert all(c.holds for c in check(connection, uids=[uid("someone else")]))


def test_the_entities_of_a_drop_are_all_of_a_small_one_and_a_spread_of_a_large_one(
    connection: Connection, tmp_path: Path
) -> None:
    reference_data(connection)
    path = write_drop(tmp_path / "drop.csv", [an_entity(f"person {number}") for number in range(100)])
    report = ingest_over(connection, path, Options())
    assert report.sha256 is not None
    assert set(entities_of_drop(connection, report.sha256)) == {uid(f"person {number}") for number in range(100)}
    few = entities_of_drop(connection, report.sha256, at_most=10)
    assert set(few) == {uid(f"person {number}") for number in range(8, 100, 10)}


def test_rows_are_counted_also_before_the_planner_has_an_estimate(connection: Connection) -> None:
    assert row_counts(connection) == RowCounts(0, 0, 0)
    fill(connection)
    assert row_counts(connection) == RowCounts(changes=4, entity_versions=4, detail_versions=4)
    connection.execute("analyze")
    assert row_counts(connection) == RowCounts(changes=4, entity_versions=4, detail_versions=4)
